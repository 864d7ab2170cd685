"""Gateways that take their time, and one that never answers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.acceptance.project.gateway import GatewayBackend

#: Files in the project's folder. While they are there, the gateway "other" hangs, and every call
#: of the gateways takes so much longer, in seconds.
HANGS, SLOW = "hangs", "slow"
SLOWER = 0.3
#: How often a call that hangs looks whether it may end, in seconds.
INTERVAL = 0.1

#: A message that kills each process that sends it, and where that process leaves a line.
POISON = "poison"
POISON_LOG = "poison.log"


class SlowGatewayBackend(GatewayBackend):
    """Accepts a call at once and answers late, so that whoever dies meanwhile never hears of it."""

    def configure(self, folder: Path, seconds: float, **options: Any) -> None:
        super().configure(folder, **options)
        self.folder, self.seconds = folder, seconds

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        if text == POISON:
            die(self.folder)
        try:
            super().send(id_, text, identities, context)
        finally:
            time.sleep(self.seconds + SLOWER * (self.folder / SLOW).exists())


class HangingGatewayBackend(SlowGatewayBackend):
    """As long as it hangs, it accepts calls, does nothing with them, and does not answer."""

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        hangs = self.folder / HANGS
        if hangs.exists():
            while hangs.exists():
                time.sleep(INTERVAL)
            raise ConnectionError("the gateway has closed the connection")
        super().send(id_, text, identities, context)


def die(folder: Path) -> None:
    """End this process as a fault in a library written in C would."""
    with (folder / POISON_LOG).open("a") as log:
        log.write(f"{os.getpid()}\n")
    os._exit(1)
