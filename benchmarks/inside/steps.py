"""The queries of each step."""

from __future__ import annotations

import queue
from typing import Any

from celery import current_app
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.router import receive, send

from benchmarks.inside import function
from benchmarks.inside.calling import first

#: No message has more tasks than this in the steps that are counted.
MOST_TASKS = 100


@function
def steps(count: int) -> dict[str, float]:
    """Count the queries of one ping with its pong, and of a broadcast with its batches."""
    sender = first(1).get()
    receive("ping 0", sender)  # imports what is imported late, and connects
    run_published()
    with CaptureQueriesContext(connection) as received:
        receive("ping 1", sender)
    tasks = run_published()
    figures = {
        "receive": len(received),
        "process": sum(number for name, number in tasks if "receive" in name),
        "ping to pong": len(received) + sum(number for _, number in tasks),
    }
    with CaptureQueriesContext(connection) as stored:
        send("broadcast", first(count))
    sent = sorted(number for _, number in run_published())
    return figures | {
        "broadcast": len(stored),
        "batch": sent[len(sent) // 2],
        "batch, most": sent[-1],
    }


def run_published() -> list[tuple[str, int]]:
    """Run the tasks that were published, and what they publish; count the queries of each."""
    done = []
    while (task := take_published()) is not None:
        name, arguments, options = task
        with CaptureQueriesContext(connection) as captured:
            current_app.tasks[name](*arguments, **options)
        done.append((name, len(captured)))
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
