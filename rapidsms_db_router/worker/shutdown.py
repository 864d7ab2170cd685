"""The end of a worker's process: what it has in flight is finished first.

By itself, a process of a prefork pool answers SIGTERM with ``SystemExit`` in the midst of its task.
A second SIGTERM kills it. Both come of scaling down, and of signals to the whole process group.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from billiard.pool import Worker  # type: ignore[import-untyped]
from billiard.process import current_process  # type: ignore[import-untyped]
from billiard.util import set_pdeathsig  # type: ignore[import-untyped]
from celery import current_task
from celery.signals import (
    task_postrun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)

logger = logging.getLogger(__name__)

#: What a process tells its parent that is to be given no more tasks.
LEAVES = "rapidsms_db_router.leaves"
#: How often a parent looks for processes that have ended, in seconds.
LOOKS_EVERY = 0.5

_stops: list[Callable[[], None]] = []
_child: Child | None = None
# a forked process has none of the threads that these would end
os.register_at_fork(after_in_child=_stops.clear)


def on_shutdown(stop: Callable[[], None]) -> None:
    """Have ``stop`` called once, before this process of a worker ends."""
    _stops.append(stop)


@worker_shutdown.connect
def _shutdown(**_: Any) -> None:
    while _stops:
        try:
            _stops.pop()()
        except Exception as exc:  # the others are called all the same
            logger.error("shutdown_failed error=%s", type(exc).__name__)
            logger.debug("shutdown_failed", exc_info=True)


@worker_process_shutdown.connect
def _process_shutdown(**_: Any) -> None:
    if _child is not None:
        _child.drains()
    _shutdown()
    if _child is not None:
        _child.ends()


@worker_process_init.connect
def _process_init(**_: Any) -> None:
    global _child
    # the pools without processes send this signal, too
    worker = getattr(current_process(), "_target", None)
    if isinstance(worker, Worker):
        _child = Child(worker)
        if worker.inq._rlock is not None:
            # the pools with a shared pipe start processes in a thread. Celery has the system kill
            # a process with its parent, for which the end of that thread counts already
            with suppress(OSError):  # there is no such thing on this system
                set_pdeathsig(0)


@task_postrun.connect
def _task_postrun(**_: Any) -> None:
    if _child is not None:
        _child.has_run()


@worker_ready.connect
def _worker_ready(sender: Any, **_: Any) -> None:
    pool: Any = getattr(sender.pool, "_pool", None)
    if not hasattr(pool, "_all_inqueues"):
        return  # no pipe for each process, or no processes

    def leaves(inqueue: int) -> None:
        pool._all_inqueues.discard(inqueue)
        pool._busy_workers.discard(inqueue)

    pool._result_handler.state_handlers[LEAVES] = leaves
    # a process of several threads closes its pipes before it can be waited for, and Celery, which
    # hears of the pipes, looks again after five seconds
    sender.hub.call_repeatedly(LOOKS_EVERY, pool.maintain_pool)


class Child:
    """A process of a prefork pool, which leaves the pool on SIGTERM when it has no task in hand.

    The handler of the signal raises nothing while a task is read from the pipe. A task that is lost
    there is never given to anyone else, and the lock of a shared pipe would be lost with it.

    Tasks of other apps are interrupted as ever, since that is how Celery revokes a task.

    :param worker: billiard's loop of this process.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._pid = os.getpid()
        self._before: Any = None
        self._taken = 0
        #: Whether the process may be left alone with a signal: it looks for it by itself.
        self._looks = True
        self._leaves = False
        self._told = False
        self._ended = False
        self._woken, self._waker = os.pipe()
        worker.inq.get_payload = self.take
        worker._make_child_methods()

    def take(self) -> bytes:
        """Wait for a task and return it; end the process if it has to leave."""
        self._looks = True
        if self._before is None:
            # not sooner, since billiard sets its own once everyone else has set theirs
            self._before = signal.getsignal(signal.SIGTERM)
            if callable(self._before):
                signal.signal(signal.SIGTERM, self._terminated)
        payload = None
        while payload is None:
            if self._leaves:
                raise SystemExit(os.EX_OK)
            payload = self._read()
        self._taken += 1
        self._looks = False
        return payload

    def _read(self) -> bytes | None:
        reader, lock = self._worker.inq._reader, self._worker.inq._rlock
        # the signal does not wake who waits for the lock
        if lock is not None and not lock.acquire(timeout=1):
            return None
        try:
            ready = wait([reader, self._woken])
            payload: bytes | None = None if self._woken in ready else reader.recv_bytes()
            return payload
        finally:
            if lock is not None:
                lock.release()

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # forked by a task
            self._before(number, frame)
        elif self._ended:
            # elsewhere it may hold the lock of a pipe; that billiard blocks the signal there
            # does not help a process of several threads
            if frame is not None and frame.f_code.co_name == "_do_exit":
                raise SystemExit
        else:
            again, self._leaves = self._leaves, True
            os.write(self._waker, b".")
            # in the midst of a task it holds no such lock
            if current_task and not self._looks and (again or _is_foreign(current_task.name)):
                self._interrupt(number, frame)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._looks = True
        try:
            self._before(number, frame)
        finally:
            # it has made the next signal one that kills, whatever is in flight
            signal.signal(signal.SIGTERM, self._terminated)

    def has_run(self) -> None:
        """Tell the parent before it hears of the task's end, if the task was the last one."""
        if self._leaves or self._taken == self._worker.maxtasks:
            self._tell()

    def drains(self) -> None:
        """Prepare for what is in flight to be finished; only SIGKILL interrupts that."""
        self._looks = True
        self._tell()

    def ends(self) -> None:
        """Let SIGTERM end the process; the parent sends one as soon as it hears of the end."""
        self._ended = True

    def _tell(self) -> None:
        # its parent would go on giving it tasks, which nobody runs until it has ended
        if not self._told and self._worker.inq._rlock is None:
            self._told = True
            self._worker.outq.put((LEAVES, (self._worker.inqW_fd,)))


def _is_foreign(task: str) -> bool:
    return not task.startswith("rapidsms_db_router.")
