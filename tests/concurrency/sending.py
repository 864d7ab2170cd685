"""Senders that tests step themselves, each in its own thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import Error
from rapidsms.models import Backend
from rapidsms.router import get_router

from rapidsms_db_router.models import Batch
from rapidsms_db_router.outbound.calls import Call, Inline, Job
from rapidsms_db_router.outbound.response import SendResponse
from rapidsms_db_router.outbound.sender import Sender
from tests.concurrency.parallel import PATIENCE


class Later:
    """An executor whose calls are in flight until they are made to end."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Callable[[Call, SendResponse], None]]] = []

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """Have a call in flight."""
        self.calls.append((call, ended))

    def end(self) -> None:
        """Make all calls, which end thereby."""
        while self.calls:
            call, ended = self.calls.pop()
            ended(call, call.make(get_router))

    def run(self, job: Job) -> None:
        """Run a job."""
        job()

    def close(self) -> None:
        """Wait for nothing."""


def new_sender() -> Sender:
    """Return a sender that makes its calls in the thread that steps it."""
    return Sender(Inline(get_router))


def send_until(is_over: Callable[[], bool]) -> list[str]:
    """Step a sender of its own until it is over; return what the database has refused to it."""
    sender, refused = new_sender(), []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for backend in Backend.objects.all():
            sender.wake(backend)
        try:
            sender.step()
        except Error as exc:  # as the thread of a worker's sender does, it steps again
            refused.append(repr(exc))
        if sender.is_done and is_over():
            sender.close()
            return refused
        sender.wait(min(sender.next_step(), 0.05))
    raise AssertionError(f"The sender comes to no end; {Batch.objects.count()} batches are left.")


def send_all() -> list[str]:
    """Step a sender until no batch is left."""
    return send_until(lambda: not Batch.objects.exists())
