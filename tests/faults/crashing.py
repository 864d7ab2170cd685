"""Runs code in a child process, and kills it at its k-th crash point, for every k there is.

A crash point is where what has happened so far may differ, for others, from what had happened at
the point before: before each statement to the database, before and after each commit, before a
call of the gateway and after the gateway has accepted. A statement outside a transaction commits
by itself.

The child is forked, so that it costs milliseconds, and leaves by ``os._exit``: no ``finally``, no
rollback, no closing of connections, as after SIGKILL. The broker is in its memory and dies too.
"""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, NoReturn
from unittest import mock

from django.db import connection, connections

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

_pass: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Say that a crash point is reached; a child whose last it is does not return from here."""
    if _pass is not None:
        _pass(name)


@dataclass(frozen=True, repr=False)
class Run:
    """How far a child came."""

    #: The names of the crash points it reached.
    points: list[str]
    #: Whether it was killed at the last of them.
    killed: bool

    @property
    def committed(self) -> bool:
        """Whether any transaction was committed."""
        return COMMITTED in self.points

    @property
    def unrecorded(self) -> bool:
        """Whether the gateway has accepted something that no commit has recorded."""
        since_commit = takewhile(lambda name: name != COMMITTED, reversed(self.points))
        return ACCEPTED in since_commit

    def __repr__(self) -> str:
        return f"killed at crash point {len(self.points)}, {self.points[-1]}"


def kill_everywhere(body: Callable[[], None]) -> Iterator[Run]:
    """Run ``body`` in children, the k-th of which is killed at crash point k.

    Ends with the first child that has fewer points than that, which is not yielded.
    """
    for number in count(1):
        run = run_in_child(body, number)
        if not run.killed:
            return
        yield run


def run_in_child(body: Callable[[], None], kill_at: int | None = None) -> Run:
    """Run ``body`` in a child process.

    :param kill_at: the number of the crash point to kill it at, from 1; by default none.
    """
    connections.close_all()  # a connection does not survive a fork
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # since Python 3.12, where another thread runs; a heartbeat's holds nothing the child needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _run_and_exit(body, writing, kill_at)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        written = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (ENDED, KILLED):
        raise RuntimeError(f"The child ended with status {status}:\n{written}")
    return Run(written.splitlines(), killed=status == KILLED)


def _run_and_exit(body: Callable[[], None], writing: int, kill_at: int | None) -> NoReturn:
    global _pass
    points: list[str] = []

    def exit_(status: int, *more: str) -> NoReturn:
        os.write(writing, "\n".join((*points, *more)).encode())
        os._exit(status)

    def pass_(name: str) -> None:
        points.append(name)
        if len(points) == kill_at:
            exit_(KILLED)

    try:
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
        crash_point(f"before {' '.join(sql.split())[:100]}")
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
