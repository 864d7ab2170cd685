"""Runs calls at the same instant, each on a database connection of its own."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from django.db import connection, connections

#: No call waits longer than this for the others to be ready, in seconds.
PATIENCE = 60

#: Children are forked: they know the test database and all that a test has set up.
fork = multiprocessing.get_context("fork")


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread of its own; return what they return, in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return _run(pool, threading.Barrier(len(calls)), calls)


def in_processes(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call, which has to be picklable, in a process of its own."""
    connections.close_all()  # a connection does not survive a fork
    barrier = fork.Barrier(len(calls))
    with ProcessPoolExecutor(
        len(calls), mp_context=fork, initializer=_remember, initargs=(barrier,)
    ) as pool:
        return _run(pool, None, calls)


def elsewhere(call: Callable[[], Any]) -> Any:
    """Run one call on another connection than the caller's, and return what it returns."""
    return in_threads(call)[0]


_barrier: Any = None


def _remember(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _run(pool: Executor, barrier: Any, calls: tuple[Callable[[], Any], ...]) -> list[Any]:
    futures = [pool.submit(_at_once, barrier, call) for call in calls]
    return [future.result() for future in futures]


def _at_once(barrier: Any, call: Callable[[], Any]) -> Any:
    try:
        connection.ensure_connection()
        (barrier or _barrier).wait(PATIENCE)
        return call()
    finally:
        connections.close_all()
