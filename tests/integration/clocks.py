"""A clock that stands still until a test has time pass."""

from __future__ import annotations

import time
from datetime import timedelta
from math import ceil

import pytest

from rapidsms_db_router.db import clock


class Clock:
    """The clock of a sender and that of the database in one: ``Sender(..., clock=Clock(...))``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # on a whole second, and none before: what is stored already is not later than now
        start = clock.now().replace(microsecond=0) + timedelta(seconds=1)
        self._wall, self.seconds = time.time(), 0.0
        # the module asks the database now and then, and counts from there
        monkeypatch.setattr(clock, "time", self)
        monkeypatch.setattr(clock, "_ask", lambda: start.timestamp() + self.seconds)
        monkeypatch.setattr(clock, "_asked_at", self.monotonic())
        monkeypatch.setattr(clock, "_wall", self.time())
        monkeypatch.setattr(clock, "_epoch", start.timestamp())

    def __call__(self) -> float:
        """Return the sender's time."""
        return self.seconds

    monotonic = __call__

    def time(self) -> float:
        """Return the machine's time."""
        return self._wall + self.seconds

    def go_on(self, seconds: float) -> None:
        """Have time pass: whole milliseconds, so that both clocks reach a date at once."""
        self.seconds = ceil(round((self.seconds + seconds) * 1000, 3)) / 1000
