"""Kannel as the demo and the acceptance tests run it: its configuration, and the phones at it."""

import os
import re
import shutil
from contextlib import suppress
from typing import NamedTuple

#: Debian's names of what has to be installed, and the programs that are used of it.
PACKAGES = "kannel", "kannel-extras"
PROGRAMS = "bearerbox", "smsbox", "fakesmsc"
FOLDERS = *os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/lib/kannel/test"

#: The number that people text to, and from which they are answered.
NUMBER = "100"
#: For ``sendsms_params`` in INSTALLED_BACKENDS.
SENDSMS_PARAMS = {"username": "rapidsms", "password": "only-for-tests", "from": NUMBER}
#: For bearerbox's own pages.
ADMIN_PASSWORD = "only-for-tests"

#: What Kannel has taken is in files until it is done, so that it survives a kill. smsbox forgets
#: what it is asking the web server when it ends: so it asks ten at a time, and goes on asking.
CONFIGURATION = """\
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = {admin_password}
smsbox-port = {smsbox}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
store-type = spool
store-location = {folder}/store
dlr-storage = spool
dlr-spool = {folder}/reports

{smsc}
group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {smsbox}
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
mo-recode = true
max-pending-requests = 10
http-request-retry = 1000
http-queue-delay = 1

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "{web}?id=%p&text=%b&charset=%C&coding=%c&message_id=%I"

group = sendsms-user
username = {username}
password = {password}
max-messages = 10
concatenation = true
"""

#: A message centre to which the phones connect.
SMSC = """\
group = smsc
smsc = fake
smsc-id = phones
port = {phones}
connect-allow-ip = 127.0.0.1
"""


class Ports(NamedTuple):
    """Where the parts of one Kannel listen."""

    admin: int
    smsbox: int
    phones: int
    sendsms: int


def find(program):
    """Return where a program is; ``None`` if it is not installed."""
    return shutil.which(program, path=os.pathsep.join(FOLDERS))


def missing():
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if find(program) is None]


def configure(folder, ports, web, smsc=SMSC):
    """Lay out a folder for one Kannel; return the path of its configuration.

    :param web: the URL that takes what people text.
    :param smsc: the group of its message centre.
    """
    for name in ("store", "reports"):
        (folder / name).mkdir(exist_ok=True)
    path = folder / "kannel.conf"
    known = ports._asdict() | SENDSMS_PARAMS | {"admin_password": ADMIN_PASSWORD}
    said = CONFIGURATION.format(folder=folder, web=web, smsc=smsc.format(**known), **known)
    path.write_text(said)
    return path


class Received(NamedTuple):
    """What a phone got."""

    #: As ``2026-11-24 19:25:08``.
    date: str
    phone: str
    text: str


class Phones:
    """Phones, played by Kannel's program ``fakesmsc``: it reads from ``stdin`` what they text.

    What they get it writes to its log.

    :param log: the path of the log.
    """

    GOT = re.compile(r"^(.{19}) .* Got message \d+: <\S+ (\S+) text (.*)>$", re.MULTILINE)

    def __init__(self, log):
        self.log = log
        # Packets: fakesmsc takes one line for each time that there is something to be read.
        self.stdin, self._pipe = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)

    @staticmethod
    def command(port):
        """Return what runs the phones."""
        return [find("fakesmsc"), "-H", "127.0.0.1", "-r", str(port), "-i", "0.001"]

    def started(self):
        """Leave the reading end of the pipe to fakesmsc."""
        os.close(self.stdin)

    def text(self, phone, text):
        """Text from one phone."""
        os.write(self._pipe, f"{phone} {NUMBER} text {text}\n".encode())

    def texted(self):
        """Return how many texts have left for Kannel."""
        return self._said().count("sent message")

    def received(self):
        """Return what the phones got so far."""
        with suppress(BrokenPipeError):
            os.write(self._pipe, b"\n")  # it listens to Kannel when it was spoken to, or after 3 s
        return [Received(*said) for said in self.GOT.findall(self._said())]

    def close(self):
        """Close the pipe, which ends fakesmsc."""
        os.close(self._pipe)

    def _said(self):
        return self.log.read_text(errors="replace")
