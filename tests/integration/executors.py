"""Executors of the sender whose calls end when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rapidsms_db_router.outbound.calls import Call, Job
from rapidsms_db_router.outbound.response import SendResponse, read


class SlowGateway:
    """Keeps every call in flight until :meth:`answer`; calls no backend."""

    def __init__(self) -> None:
        #: Calls in flight and ended, in the order in which they were started.
        self.calls: list[Call] = []
        self._ended: list[Callable[[Call, SendResponse], None]] = []

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """Begin a call."""
        self.calls.append(call)
        self._ended.append(ended)

    def run(self, job: Job) -> None:
        """Run a job at once."""
        job()

    def close(self) -> None:
        """Have nothing to wait for."""

    def answer(self, number: int, error: Exception | None = None, returned: Any = None) -> None:
        """End a call, by its number: with what the backend raised or returned."""
        call = self.calls[number]
        self._ended[number](call, read(call.rows, returned, error, call.message.text))
