"""The host of a worker process's sender: its thread, its pace, its end.

Each process has one: a child of the prefork pool, or the one process of the other pools. The first
task that needs the sender starts it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import connections

from rapidsms_db_router.db.transient import is_transient
from rapidsms_db_router.worker.connections import give_back
from rapidsms_db_router.worker.shutdown import on_shutdown

logger = logging.getLogger(__name__)

#: Steps begin at least this far apart, in seconds: a step writes down all that has ended since.
PACE = 0.02
#: The same while recipients wait for a call to end.
PRESSED_PACE = 0.003
#: Otherwise, on a busy machine, as many times as far apart as the last took, up to so many seconds:
#: fewer steps that write down more cost less.
TIMES, LONGEST_PACE = 4, 0.05
#: The longest pause after a step that the database has refused, in seconds.
LONGEST_PAUSE = 2.0
#: A sender with nothing to do gives up its connection after this many seconds.
IDLE = 10.0


class Steps(Protocol):
    """What is hosted."""

    def step(self) -> None: ...

    def wait(self, seconds: float) -> bool: ...

    def next_step(self) -> float: ...

    def drain(self) -> None: ...

    def close(self) -> None: ...

    @property
    def is_done(self) -> bool: ...

    @property
    def is_pressed(self) -> bool: ...


class Host:
    """Runs one sender in a thread of its own.

    :param sender: the sender.
    """

    def __init__(self, sender: Steps) -> None:
        self.sender = sender
        self.pid = os.getpid()
        self._stopping = threading.Event()
        # a call that never returns must not keep the process from ending
        self._thread = threading.Thread(
            target=self._run, name="rapidsms_db_router-sender", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        on_shutdown(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """Start no more calls; wait for those in flight, write them down, release the rest."""
        self._stopping.set()
        self.sender.drain()
        self._thread.join()

    def _run(self) -> None:
        last, pause, refused, pace = float("-inf"), 0.0, 0, PACE
        while True:
            happened = self.sender.wait(min(pause, IDLE))
            if not happened and pause > IDLE and self.sender.is_done:
                connections.close_all()
            time.sleep(max(last + pace - time.monotonic(), 0.0))
            last = time.monotonic()
            try:
                self.sender.step()
                if self._stopping.is_set() and self.sender.is_done:
                    self.sender.close()
                    break
                pause, refused = self.sender.next_step(), 0
                took = time.monotonic() - last
                pace = max(PACE, min(TIMES * took, LONGEST_PACE))
                if self.sender.is_pressed:
                    pace = PRESSED_PACE
            except Exception as exc:
                pause, refused = 0.0, refused + 1
                self._log(exc)
                time.sleep(min(PACE * 2**refused, LONGEST_PAUSE))
            finally:
                give_back()
        connections.close_all()

    def _log(self, exc: Exception) -> None:
        """Log what a step has met; the next step does the same work."""
        if is_transient(exc):
            logger.warning("database_refused error=%s", type(exc).__name__)
        else:
            logger.error("step_failed error=%s", type(exc).__name__)
            logger.debug("step_failed", exc_info=exc)
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()


_host: Host | None = None
_stepped: Any = None
_starting = threading.Lock()


def sender(make: Callable[[], Any]) -> Any:
    """Return the sender of this process.

    :param make: makes it, if there is none yet. A forked child has none of its parent's.
    """
    global _host
    if _stepped is not None:
        return _stepped
    with _starting:
        if _host is None or _host.pid != os.getpid():
            _host = Host(make())
            _host.start()
    return _host.sender


@contextmanager
def stepped(by_hand: Any) -> Iterator[None]:
    """Have the body find a sender that no thread steps; for tests, which step it themselves."""
    global _stepped
    _stepped = by_hand
    try:
        yield
    finally:
        _stepped = None
