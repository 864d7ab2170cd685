"""A Kannel at a message centre that shows octets; its reports go to the web server of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo import kannel
from tests.acceptance.kannel import Kannel, require
from tests.acceptance.running import wait_for
from tests.acceptance.smpp import MessageCentre

#: It takes messages for ``centre`` alone; the queue holds few of those that it cannot take.
SMSC = """\
group = smsc
smsc = smpp
smsc-id = centre
allowed-smsc-id = centre
host = 127.0.0.1
port = {port}
smsc-username = kannel
smsc-password = secret
system-type = ""
transceiver-mode = true
reconnect-delay = 1
"""
QUEUE = "sms-outgoing-queue-limit = 20\nsms-resend-freq = 1\n"
ENGINE = "rapidsms_db_router.gateways.kannel.KannelBackend"


class KannelAtCentre(Kannel):
    """Bearerbox and smsbox, and a message centre in this process."""

    def __init__(self) -> None:
        self.centre = MessageCentre()
        super().__init__(SMSC.replace("{port}", str(self.centre.port)))

    def configure(self, web: str) -> None:
        super().configure(web)
        path = self.folder / "kannel.conf"
        path.write_text(path.read_text().replace("group = core\n", f"group = core\n{QUEUE}", 1))

    def start(self, web: str) -> None:
        super().start(web)
        self.wait_for_centre()

    def wait_for_centre(self) -> None:
        """Wait until the message centre is connected."""
        wait_for("the message centre", self.is_online)

    def remove(self) -> None:
        super().remove()
        self.centre.close()

    def options(self, web: str) -> dict[str, Any]:
        """Return the options of a backend.

        :param web: the URL of the web server.
        """
        return {
            "ENGINE": ENGINE,
            "sendsms_url": self.sendsms_url,
            "sendsms_params": {**kannel.SENDSMS_PARAMS, "smsc": "centre"},
            "delivery_report_url": web,
        }


@contextmanager
def kannel_at_centre(web: str) -> Iterator[KannelAtCentre]:
    """Run one; print the ends of its logs afterwards."""
    require()
    box = KannelAtCentre()
    try:
        box.start(f"{web}/kannel/")
        yield box
    finally:
        for _, process in box.processes:
            print(f"== {process.log.name}", *process.output().splitlines()[-20:], sep="\n")
        box.remove()
