"""The queries of each step."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from celery import current_app
from celery.app.trace import trace_task
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.router import receive, send

from benchmarks.inside import function
from benchmarks.inside.calling import first

#: The recipients of one batch.
BATCH = 200
#: No message has more tasks than this in the steps that are counted.
MOST_TASKS = 100


@function
def steps(count: int) -> dict[str, float]:
    """Count the queries of one ping with its pong, and of a broadcast with its batches."""
    with worker() as run:
        return _count(count, run)


def _count(count: int, run: Any) -> dict[str, float]:
    sender = first(1).get()
    receive("ping 0", sender)  # imports what is imported late, and connects
    run_published(run)
    with CaptureQueriesContext(connection) as received:
        receive("ping 1", sender)
    tasks = run_published(run)
    figures = {
        "receive": len(received),
        "process": sum(number for name, number in tasks if "receive" in name),
        "ping to pong": len(received) + sum(number for _, number in tasks),
    }
    with CaptureQueriesContext(connection) as stored:
        send("broadcast", first(count))
    sent = sum(number for _, number in run_published(run))
    return figures | {
        "broadcast": len(stored),
        "batch": sent / ceil(count / BATCH),
    }


@contextmanager
def worker() -> Iterator[Any]:
    """Yield a function that runs a task as a worker does."""
    if not apps.is_installed("rapidsms_db_router"):
        yield lambda name, arguments, options: current_app.tasks[name](*arguments, **options)
        return
    from rapidsms_db_router.outbound.calls import Inline
    from rapidsms_db_router.outbound.sender import Sender
    from rapidsms_db_router.worker import host, routers

    sender = Sender(Inline(routers.router))

    def run(name: str, arguments: list[Any], options: dict[str, Any]) -> None:
        task, request = current_app.tasks[name], {"is_eager": False, "delivery_info": {}}
        trace_task(task, "benchmark", arguments, options, request, app=current_app)
        # the thread of the sender is this one
        while True:
            sender.step()
            if sender.is_done and not any(lane.more for lane in sender.lanes.values()):
                return
            sender.wait(min(sender.next_step(), 0.01))

    with host.stepped(sender):
        yield run


def run_published(run: Any) -> list[tuple[str, int]]:
    """Run the tasks that were published, and what they publish; count the queries of each."""
    done = []
    while (task := take_published()) is not None:
        with CaptureQueriesContext(connection) as captured:
            run(*task)
        done.append((task[0], len(captured)))
        assert len(done) < MOST_TASKS, done
    return done


def take_published() -> tuple[str, list[Any], dict[str, Any]] | None:
    """Take one task out of the broker; ``None`` if there is none."""
    with current_app.connection_for_read() as broker:
        for name in list(current_app.amqp.queues):
            with broker.SimpleQueue(current_app.amqp.queues[name]) as tasks:
                try:
                    message = tasks.get(block=False)
                except queue.Empty:
                    continue
                message.ack()
                arguments, options, _ = message.decode()
                return message.headers["task"], arguments, options
    return None
