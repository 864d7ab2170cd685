"""Calls of backends, and the threads that do nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from django.db import connections

from rapidsms_db_router.activation import default_locale
from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.models import Message
from rapidsms_db_router.models.message import backend_context
from rapidsms_db_router.outbound import response, separators
from rapidsms_db_router.outbound.causes import Cause
from rapidsms_db_router.outbound.failure import Failure, examine
from rapidsms_db_router.outbound.response import SendResponse

logger = logging.getLogger(__name__)

#: A thread without work ends after this many seconds.
IDLE = 30.0
#: How long to wait for the project's signal receivers when the process ends, in seconds.
LONGEST_CLOSE = 5.0

#: Backends whose responses were logged as unexpected: once in each process.
_told: set[str] = set()

Job = Callable[[], None]


class Router(Protocol):
    """What a call asks of a router."""

    def send_to_backend(
        self, backend_name: str, id_: Any, text: str, identities: list[str], context: dict[str, Any]
    ) -> Any: ...


class Call:
    """One call of a backend.

    :param backend_id: the backend's primary key.
    :param backend_name: its name.
    :param message: what is sent.
    :param rows: to whom.
    :param batch_id: the batch they belong to.
    :param deadline: when the call is over, by the sender's clock.
    :param trial: whether it is the trial of a half-open circuit.
    """

    def __init__(
        self,
        backend_id: int,
        backend_name: str,
        message: Message,
        rows: list[Recipient],
        batch_id: int,
        deadline: float,
        *,
        trial: bool = False,
    ) -> None:
        self.backend_id = backend_id
        self.backend_name = backend_name
        self.message = message
        self.rows = rows
        self.batch_id = batch_id
        self.deadline = deadline
        self.trial = trial
        #: What became of it; ``None`` while it is in flight.
        self.response: SendResponse | None = None

    def make(self, router: Callable[[], Router]) -> SendResponse:
        """Call the backend; return its response.

        :param router: returns the router whose backend is called.
        """
        unfit = separators.unfit(self.rows, self.backend_name)
        rows = [row for row in self.rows if row not in unfit] if unfit else self.rows
        answered = self._make(router, rows) if rows else SendResponse(is_called=False)
        if unfit:
            error = PermanentSendingError(separators.REASON)
            failures = [Failure(row, error, Cause.PERMANENT) for row in unfit]
            answered.failed += examine(failures, unfit, self.message.text)
        return answered

    def _make(self, router: Callable[[], Router], rows: list[Recipient]) -> SendResponse:
        returned, raised = None, None
        try:
            with default_locale():
                returned = router().send_to_backend(
                    backend_name=self.backend_name,
                    id_=self.message.pk,
                    text=self.message.text,
                    identities=[row.identity for row in rows],
                    context=backend_context(self.message),
                )
        except Exception as exc:
            raised = exc
        answered = response.read(rows, returned, raised, self.message.text)
        if answered.unexpected and self.backend_name not in _told:
            _told.add(self.backend_name)
            logger.warning(
                "response_unexpected backend=%s type=%s", self.backend_id, answered.unexpected
            )
        return answered


class Executor(Protocol):
    """What makes the calls of a sender, and runs its other jobs."""

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """Make a call; then call ``ended``, in whatever thread."""

    def run(self, job: Job) -> None:
        """Run a job."""

    def close(self) -> None:
        """Wait for jobs that are not calls."""


class Inline:
    """Makes each call at once, in the caller's thread.

    :param router: returns the router whose backends are called.
    """

    def __init__(self, router: Callable[[], Router]) -> None:
        self._router = router

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """See :class:`Executor`."""
        ended(call, call.make(self._router))

    def run(self, job: Job) -> None:
        """See :class:`Executor`."""
        job()

    def close(self) -> None:
        """See :class:`Executor`."""


class Threads:
    """Makes calls in daemon threads, as many as there are calls in flight.

    ``ThreadPoolExecutor`` joins its threads when the interpreter exits, so that one call that
    never returns would keep a worker from ending.

    :param router: returns the router of the current thread: each has its own backends.
    """

    def __init__(self, router: Callable[[], Router]) -> None:
        self._router = router
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._busy = 0
        self._threads = 0

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """See :class:`Executor`."""
        self.run(lambda: ended(call, self._make(call)))

    def run(self, job: Job) -> None:
        """See :class:`Executor`."""
        with self._lock:
            if self._busy >= self._threads:
                name = "rapidsms_db_router-call"
                # raises where the system has no more threads: then there is no job either
                threading.Thread(target=self._work, name=name, daemon=True).start()
                self._threads += 1
            self._busy += 1
        self._jobs.put(job)

    def close(self) -> None:
        """See :class:`Executor`; threads that were left behind are not waited for."""
        deadline = time.monotonic() + LONGEST_CLOSE
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.01)

    def _make(self, call: Call) -> SendResponse:
        try:
            return call.make(self._router)
        except BaseException as exc:  # SystemExit; gevent's time-outs; else nobody ends the call
            return response.read(call.rows, None, exc, call.message.text)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if self._busy >= self._threads:
                        continue  # a job is on its way
                    self._threads -= 1
                return
            try:
                job()
            except Exception as exc:
                logger.error("job_failed error=%s", type(exc).__name__)
                logger.debug("job_failed", exc_info=True)
            finally:
                for database in connections.all(initialized_only=True):
                    database.close()
                with self._lock:
                    self._busy -= 1
