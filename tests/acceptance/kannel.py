"""A Kannel of a test's own, whose parts may be killed, and the phones at it."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from demo import kannel
from demo.kannel import Phones, Received
from tests import servers
from tests.acceptance.running import PATIENCE, Process, wait_for
from tests.storms.servers import free_port


def require() -> None:
    """Skip the calling test unless Kannel is installed; under CI fail it instead."""
    if missing := kannel.missing():
        complain = pytest.fail if servers.ALL_REQUIRED else pytest.skip
        packages = " and ".join(kannel.PACKAGES)
        complain(f"not installed: {', '.join(missing)} (Debian's packages {packages})")


class Kannel:
    """Bearerbox, smsbox and phones, in a temporary folder and on ports of their own.

    :param smsc: the group of its message centre; the phones are at the default one alone.
    """

    def __init__(self, smsc: str = kannel.SMSC) -> None:
        self.smsc = smsc
        self.folder = Path(tempfile.mkdtemp(prefix="kannel-"))
        self.ports = kannel.Ports(*(free_port() for _ in kannel.Ports._fields))
        self.sendsms_url = f"http://127.0.0.1:{self.ports.sendsms}/cgi-bin/sendsms"
        #: Every process so far, by what it is.
        self.processes: list[tuple[str, Process]] = []
        self._phones: list[Phones] = []

    def start(self, web: str) -> None:
        """Start everything, and wait until it answers.

        :param web: the URL that takes what people text.
        """
        self.configure(web)
        self.start_bearerbox()
        self.start_smsbox()
        if self.smsc == kannel.SMSC:
            self.start_phones()

    def configure(self, web: str) -> None:
        """Write the configuration.

        :param web: the URL that takes what people text.
        """
        kannel.configure(self.folder, self.ports, web, self.smsc)

    def start_bearerbox(self) -> None:
        bearerbox = self._start("bearerbox", self._box("bearerbox"))
        wait_for("bearerbox", lambda: bearerbox.runs() and self.status() is not None)

    def start_smsbox(self) -> None:
        """Have smsbox run, as whoever looks after services does; wait until bearerbox knows it.

        When its bearerbox is gone it does what is in its hands, and ends or begins anew.
        """

        def runs() -> bool:
            if not self._lives("smsbox"):
                self._start("smsbox", self._box("smsbox"))
            status = self.status()
            return status is not None and status.find("boxes/box/status") is not None

        wait_for("smsbox", runs)

    def start_phones(self) -> None:
        phones = Phones(self._log("phones"))
        process = self._start("phones", phones.command(self.ports.phones), stdin=phones.stdin)
        phones.started()
        self._phones.append(phones)
        wait_for("the phones", lambda: process.runs() and self.is_online())

    def kill(self, name: str) -> None:
        """End a part at once: ``bearerbox``, with which the phones end, or ``smsbox``."""
        self._last(name).kill()

    def remove(self) -> None:
        """End it, and leave nothing of it."""
        for phones in self._phones:
            phones.close()
        for _, process in reversed(self.processes):
            process.kill()
        shutil.rmtree(self.folder)

    # What it does, and what is known of it

    def is_online(self) -> bool:
        """Return whether its message centre is connected."""
        status = self.status()
        return status is not None and "online" in status.findtext("smscs/smsc/status", "")

    def text(self, phone: str, text: str) -> None:
        """Text from one phone."""
        self._phones[-1].text(phone, text)

    def received(self) -> list[Received]:
        """Return what the phones got so far."""
        return [received for phones in self._phones for received in phones.received()]

    def wait_for_texts(self, count: int, patience: float = PATIENCE) -> list[Received]:
        """Wait until the phones got so many texts; return them."""

        def enough() -> list[Received] | None:
            received = self.received()
            return received if len(received) >= count else None

        return wait_for(f"{count} texts at the phones", enough, patience)

    def taken(self) -> int:
        """Return how many texts bearerbox has taken since it was started."""
        status = self.status()
        return 0 if status is None else int(status.findtext("sms/received/total", "0"))

    def status(self) -> Any:
        """Return what bearerbox says of itself, as XML; ``None`` if it does not answer."""
        address = f"http://127.0.0.1:{self.ports.admin}"
        url = f"{address}/status.xml?password={kannel.ADMIN_PASSWORD}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return ElementTree.fromstring(answer.read())
        except OSError:
            return None

    def _box(self, name: str) -> list[str]:
        return [str(kannel.find(name)), str(self.folder / "kannel.conf")]

    def _start(self, name: str, command: list[str], **options: Any) -> Process:
        process = Process(command, dict(os.environ), self._log(name), **options)
        self.processes.append((name, process))
        return process

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}{len(self.processes)}.log"

    def _last(self, name: str) -> Process:
        return [process for called, process in self.processes if called == name][-1]

    def _lives(self, name: str) -> bool:
        """Return whether a part, or what it has put in its own place, is there."""
        if all(called != name for called, _ in self.processes):
            return False
        process = self._last(name)
        process.ended()  # what has ended is no longer in the group once it was asked
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        return True
