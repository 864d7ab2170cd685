"""A worker process without threads, whose time passes only when it waits; and recovery."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress

from celery import current_app
from celery.app.trace import trace_task
from django.db import Error
from rapidsms.models import Backend

from rapidsms_db_router import recovery
from rapidsms_db_router.db import clock
from rapidsms_db_router.models import Batch, BulkAction, Message
from rapidsms_db_router.outbound.calls import Inline
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.worker import host, routers
from tests.integration.conftest import Published, Worker

#: A sender that need not step for so long has nothing to do, in seconds.
LONGEST_WAIT = 60.0
#: It comes to its end within so many steps, or never.
STEPS = 500
#: Recovery has everything done within so many looks, or never.
LOOKS = 4
#: Between two looks every lease ends, and every date comes: so many seconds.
BETWEEN_LOOKS = 4000.0


def pass_time(seconds: float) -> None:
    """Have both clocks go forward: the database's, and the senders' own."""
    global _passed
    clock.now()  # it is known from here on
    clock._epoch += seconds
    _passed += seconds


_passed = 0.0


class Process(Worker):
    """Runs tasks and steps its sender to the end of all they find, as a worker's threads do."""

    def __init__(self) -> None:
        super().__init__(lambda execute: nullcontext())
        self.sender = Sender(Inline(routers.router), clock=lambda: time.monotonic() + _passed)

    def run(self, published: Published) -> None:
        """Run a task, then send."""
        self.start(published)
        self.step()

    def start(self, published: Published) -> None:
        """Run a task, and step nothing."""
        task = current_app.tasks[f"rapidsms_db_router.tasks.{published.name}"]
        request = {"id": published.id, "is_eager": False, "delivery_info": {}}
        with host.stepped(self.sender):
            trace_task(task, published.id, (), published.kwargs, request, app=current_app)

    def step(self) -> None:
        """Step until nothing is to be done, now or soon; what the database refuses, again."""
        for _ in range(STEPS):
            try:
                self.sender.step()
            except Error:
                continue
            lanes = self.sender.lanes.values()
            now = any(lane.held or lane.calls or lane.ended or lane.more for lane in lanes)
            later = any(lane.wakes for lane in lanes)
            if not (now or later) or self.sender.next_step() > LONGEST_WAIT:
                return
            pass_time(self.sender.next_step())
        raise AssertionError("The sender comes to no end.")

    def step_once(self) -> None:
        """Look for batches of every backend, and make one step."""
        for backend in Backend.objects.all():
            self.sender.wake(backend)
        self.sender.step()


def work() -> None:
    """Run all tasks there are in this process's broker, and send all that may be sent."""
    process = Process()
    process.work()
    with suppress(Error):  # its slots are free again in any case, a little later
        process.sender.close()


def recover() -> None:
    """Have recovery look, and another process do what it finds, until nothing is left."""
    for _ in range(LOOKS):
        pass_time(BETWEEN_LOOKS)
        recovery.recover()
        work()
        if is_over():
            return


def is_over() -> bool:
    """Return whether nothing is left to be done."""
    looked_at = Message.objects.filter(recover_at__isnull=False)
    acting = BulkAction.objects.filter(state=BulkAction.State.RUNNING)
    return not (Batch.objects.exists() or looked_at.exists() or acting.exists())
