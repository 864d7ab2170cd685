"""A Kannel that keeps what it has taken in memory, as Debian's package configures it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.setups import Setup, one_sms_a_call
from demo import kannel
from tests.acceptance.kannel import Kannel

#: What the demo's Kannel keeps in files.
STORES = "store-type", "store-location", "dlr-spool"
#: Nobody texts in.
NO_WEB = "http://127.0.0.1:1/"
#: Calls at once.
AT_ONCE = 100


class KannelInMemory(Kannel):
    """Bearerbox, smsbox and phones, without files."""

    def start_bearerbox(self) -> None:
        path = self.folder / "kannel.conf"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(STORES)]
        said = "\n".join(lines).replace("dlr-storage = spool", "dlr-storage = internal")
        path.write_text(f"{said}\n")
        super().start_bearerbox()


def no_kannel() -> str:
    """Return what of Kannel is not installed."""
    return ", ".join(f"{program} is not installed" for program in kannel.missing())


@contextmanager
def at_kannel() -> Iterator[tuple[Setup, Kannel]]:
    """Run a Kannel, whose phones take everything; yield the setup of a project that has it."""
    box = KannelInMemory()
    try:
        box.start(NO_WEB)
        options = {
            "ENGINE": "rapidsms_db_router.gateways.kannel.KannelBackend",
            "sendsms_url": box.sendsms_url,
            "sendsms_params": kannel.SENDSMS_PARAMS,
            "router.db.concurrency": AT_ONCE,
        }
        yield one_sms_a_call(written=False, more=options), box
    finally:
        box.remove()
