"""A gateway that takes everything, and its time."""

from __future__ import annotations

import time
from typing import Any

from rapidsms.backends.base import BackendBase


class Gateway(BackendBase):
    """Takes so many seconds for each call."""

    def configure(self, seconds: float = 0, **_: Any) -> None:
        self.seconds = seconds

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        if self.seconds:
            time.sleep(self.seconds)
