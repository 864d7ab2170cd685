"""The callers: those who send to many, and the phones that text in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import Min
from rapidsms.models import Connection
from rapidsms.router import receive, send

from benchmarks.inside import function
from benchmarks.service.tasks import note_time


class Count:
    """Counts statements, and keeps nothing of them."""

    def __init__(self) -> None:
        self.statements = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.statements += 1
        return execute(*arguments)


def peak() -> float:
    """Return the most memory this process has ever had, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def first(count: int, backend: str = "gateway") -> Any:
    """Select so many connections."""
    if backend == "gateway":
        return Connection.objects.filter(pk__lte=count)
    at_backend = Connection.objects.filter(backend__name=backend)
    return at_backend.filter(pk__lt=at_backend.aggregate(pk=Min("pk"))["pk"] + count)


@function
def intake(count: int, form: str) -> dict[str, float]:
    """Send to a QuerySet, or to a list."""
    send("first", first(1))  # imports what is imported late, and connects
    recipients = first(count) if form == "queryset" else list(first(count))
    before, counted = peak(), Count()
    with connection.execute_wrapper(counted):
        start = time.perf_counter()
        send("broadcast", recipients)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rate": count / seconds,
        "queries": counted.statements,
        "megabytes": peak() - before,
    }


@function
def broadcast(count: int, backend: str = "gateway") -> None:
    """Send to so many."""
    send("broadcast", first(count, backend))


@function
def warm_up(count: int, pings: int) -> None:
    """Send to so many, and have some pings come in."""
    broadcast(count)
    come_in(pings)


@function
def come_in(count: int, interval: float = 0) -> dict[str, float]:
    """Have pings come in, one by one, so many seconds apart."""
    senders = list(first(count))
    receive("first", senders[0])
    start = time.perf_counter()
    for number, sender in enumerate(senders):
        time.sleep(max(0, start + number * interval - time.perf_counter()))
        receive(f"ping {number}", sender)
    return {"rate": count / (time.perf_counter() - start)}


@function
def text_in(count: int, interval: float) -> dict[str, float]:
    """Have pings come in; return when each was handed over, by its answer."""
    receive("first", first(1).get())
    moments = {}
    for number, sender in enumerate(first(count)):
        moments[f"pong {number}"] = time.time()
        receive(f"ping {number}", sender)
        time.sleep(interval)
    return moments


@function
def ask_to_count(count: int) -> None:
    """Have texts come in that three messages answer each."""
    for sender in first(count):
        receive("count", sender)


@function
def publish(count: int, path: str) -> dict[str, float]:
    """Publish bare tasks."""
    note_time.delay(path)
    start = time.perf_counter()
    for _ in range(count - 1):
        note_time.delay(path)
    return {"published": (count - 1) / (time.perf_counter() - start)}
