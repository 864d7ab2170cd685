"""Runs code in a child process with a fault at its k-th crash point, for every k there is.

Crash points are before each statement to the database, before and after each commit, before a call
of the gateway and after the gateway has accepted. A statement outside a transaction commits by
itself. Each fault has its own points. What has happened differs, for others, from one point to the
next only by a commit or by what the gateway accepts: a process that dies anywhere between two of
those dies as after the first. So death comes after each of those by default, and refusal at
commits and at statements that commit by themselves; with ``DB_ROUTER_CRASH_POINTS=all`` both come
at every statement.

The child is forked, so that it costs milliseconds. One that is killed leaves by ``os._exit``: no
``finally``, no rollback, no closing of connections, as after SIGKILL. The broker is in its memory
and dies too.
"""

from __future__ import annotations

import gc
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any, NoReturn
from unittest import mock

from django.db import OperationalError, connection, connections

#: How statements begin that change something.
WRITING = ("INSERT", "UPDATE", "DELETE", "WITH")

COMMITTING = "before COMMIT"
COMMITTED = "after COMMIT"
CALLING = "before the gateway is called"
ACCEPTED = "after the gateway has accepted"

#: Exit statuses of the child.
ENDED, FAILED, KILLED = 0, 1, 42
#: No child runs longer than this, in seconds.
PATIENCE = 60


#: Whether faults come at every statement.
ALL = os.environ.get("DB_ROUTER_CRASH_POINTS") == "all"
#: How the names of statements within a transaction begin.
WITHIN = "within a transaction, before"


class Fault(Enum):
    """What happens at a crash point."""

    #: The process is killed.
    DEATH = "killed"
    #: The process lives; a commit has succeeded, and its client is told that the database is gone.
    LOST_ANSWER = "answer lost"
    #: The process lives; the database refuses a statement or a commit in passing.
    REFUSAL = "refused"

    def has(self, point: str, everywhere: bool) -> bool:
        """Return whether this fault can happen at a point."""
        if self is Fault.LOST_ANSWER or point == COMMITTED:
            return self is not Fault.REFUSAL and point == COMMITTED
        if point in (CALLING, ACCEPTED):
            return self is Fault.DEATH and (everywhere or point == ACCEPTED)
        if everywhere:
            return True
        return self is Fault.REFUSAL and not (point.startswith(WITHIN) or "SELECT" in point)


_pass: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Say that a crash point is reached; a child whose last it is does not return from here."""
    if _pass is not None:
        _pass(name)


@dataclass(frozen=True, repr=False)
class Run:
    """How far a child came."""

    #: The names of the points it reached.
    points: list[str]
    #: The fault it was to meet, and the number of the point where that happened, if it did.
    fault: Fault
    met_at: int | None

    @property
    def committed(self) -> bool:
        """Whether any transaction was committed."""
        return COMMITTED in self.points

    def __repr__(self) -> str:
        if self.met_at is None:
            return "not disturbed"
        return f"{self.fault.value} at point {self.met_at}, {self.points[self.met_at - 1]}"


def at_each_point(
    body: Callable[[], None], fault: Fault, prepare: Callable[[], None], everywhere: bool
) -> Iterator[Run]:
    """Run ``body`` in children, of which the k-th meets the fault at its k-th crash point.

    Ends with the first child that has fewer points than that, which is not yielded.

    :param prepare: is called before each child, here.
    :param everywhere: whether every statement is a point.
    """
    for number in count(1):
        prepare()
        run = run_in_child(body, number, fault, everywhere=everywhere)
        if run.met_at is None:
            return
        yield run


def run_in_child(
    body: Callable[[], None],
    number: int | None = None,
    fault: Fault = Fault.DEATH,
    *,
    everywhere: bool = ALL,
) -> Run:
    """Run ``body`` in a child process.

    :param number: at which of its crash points the fault happens, from 1; by default at none.
    :param everywhere: whether every statement is a point.
    """
    connections.close_all()  # a connection does not survive a fork
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # since Python 3.12, where another thread runs; that of leases holds nothing the child needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _run_and_exit(body, writing, number, fault, everywhere)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        met, *written = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (ENDED, KILLED):
        raise RuntimeError(f"The child ended with status {status}:\n" + "\n".join(written))
    return Run(written, fault, int(met) or None)


def _run_and_exit(
    body: Callable[[], None], writing: int, number: int | None, fault: Fault, everywhere: bool
) -> NoReturn:
    global _pass
    points: list[str] = []
    met_at = passed = 0

    def exit_(status: int, *more: str) -> NoReturn:
        with os.fdopen(writing, "w") as pipe:
            pipe.write("\n".join((str(met_at), *points, *more)))
        os._exit(status)

    def pass_(name: str) -> None:
        nonlocal met_at, passed
        points.append(name)
        passed += fault.has(name, everywhere)
        if met_at or passed != number:
            return
        met_at = len(points)
        if fault is Fault.DEATH:
            exit_(KILLED)
        raise OperationalError("database is locked")  # what passes, whatever the database

    try:
        gc.disable()  # it would have the memory of the parent copied
        signal.alarm(PATIENCE)
        _pass = pass_
        with _watched():
            body()
    except BaseException:
        exit_(FAILED, traceback.format_exc())
    exit_(ENDED)


def _watched() -> ExitStack:
    """Make crash points of what is said to the database."""
    commit = connection._commit

    def statement(execute: Callable[..., Any], sql: str, *more: Any) -> Any:
        where = WITHIN if connection.in_atomic_block else "before"
        crash_point(f"{where} {' '.join(sql.split())[:100]}")
        result = execute(sql, *more)
        if not connection.in_atomic_block and sql.startswith(WRITING):
            crash_point(COMMITTED)  # by itself
        return result

    def watched_commit() -> None:
        crash_point(COMMITTING)
        commit()
        crash_point(COMMITTED)

    watched = ExitStack()
    watched.enter_context(connection.execute_wrapper(statement))
    watched.enter_context(mock.patch.object(connection, "_commit", watched_commit))
    return watched
