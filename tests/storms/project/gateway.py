"""A gateway that takes its time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.acceptance.project.gateway import GatewayBackend


class SlowGatewayBackend(GatewayBackend):
    """Accepts a call at once and answers late, so that whoever dies meanwhile never hears of it."""

    def configure(self, folder: Path, seconds: float, **options: Any) -> None:
        super().configure(folder, **options)
        self.seconds = seconds

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        try:
            super().send(id_, text, identities, context)
        finally:
            time.sleep(self.seconds)
