"""Publishing that keeps no caller waiting: what a task is about is stored already."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from celery import Celery
from kombu import pools
from kombu.connection import Connection
from kombu.exceptions import OperationalError

#: The longest that a caller waits until the broker has taken a task, in seconds.
LONGEST = 1.5
#: The longest that a connection waits for one answer of the broker, in seconds.
PATIENCE = 0.8
#: A broker that failed is left alone for so many times what the try took, and for how many seconds
#: at the most.
PAUSE, LONGEST_PAUSE = 10, 5.0
#: Options by which a transport is told how long to wait for an answer.
PATIENCE_OPTIONS = {
    "amqp": ("read_timeout", "write_timeout"),
    "redis": ("socket_timeout", "socket_connect_timeout"),
}
#: Options of a publisher; without them what is written to a dead connection counts as published.
PUBLISHER_OPTIONS = {"amqp": {"confirm_publish": True}}
#: The most threads that are kept for the next caller.
MOST_IDLE = 8

Returned = TypeVar("Returned")


class Publisher:
    """Publishes in place of a producer of kombu, within :data:`LONGEST` seconds or not at all.

    kombu limits how long each answer of the broker may take, but neither how many there are nor how
    long the system looks for the broker's address. A broker that failed is not asked again at once.

    :param connection: where the broker is. It is never opened itself.
    """

    def __init__(self, connection: Connection) -> None:
        #: What Celery asks for the names of the broker's errors.
        self.connection = connection
        self._asked_again = float("-inf")

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish a task, as a producer of kombu does.

        :raises kombu.exceptions.OperationalError: if the broker does not take it in time, or failed
            just before.
        """
        start = time.monotonic()
        if start < self._asked_again:
            raise OperationalError("The broker failed a moment ago.")
        try:
            return within(LONGEST, lambda: self._publish(body, options))
        except Exception:
            now = time.monotonic()
            self._asked_again = now + min(PAUSE * (now - start), LONGEST_PAUSE)
            raise

    def _publish(self, body: Any, options: dict[str, Any]) -> Any:
        # kombu keeps one pool for each set of connection options, and drops them all in a fork
        with pools.producers[self.connection].acquire(block=True, timeout=LONGEST) as producer:
            return producer.publish(body, **options)


def publisher(app: Celery) -> Publisher:
    """Return the publisher of a Celery app."""
    urls = app.conf.broker_write_url, app.conf.broker_url
    if (known := _publishers.get(app)) is None or known[0] != urls:
        # to describe a connection takes as long as to publish a task
        connection = impatient(app.connection_for_write())
        options = PUBLISHER_OPTIONS.get(driver(connection), {})
        connection.transport_options = {**options, **(connection.transport_options or {})}
        known = _publishers[app] = urls, Publisher(connection)
    return known[1]


def impatient(connection: Connection, seconds: float = PATIENCE) -> Connection:
    """Have a connection, not opened yet, give up soon if the broker does not answer."""
    connection.connect_timeout = seconds  # type: ignore[assignment]
    names = PATIENCE_OPTIONS.get(driver(connection), ())
    options: dict[str, Any] = dict.fromkeys(names, seconds)
    connection.transport_options = {**options, **(connection.transport_options or {})}
    return connection


def driver(connection: Connection) -> str:
    """Return what kind of broker a connection is to."""
    return str(connection.get_transport_cls().driver_type)


def within(seconds: float, work: Callable[[], Returned]) -> Returned:
    """Do some work in another thread, and return what it returns.

    :param seconds: how long to wait. Then the thread is left behind; it ends with its work.
    :raises kombu.exceptions.OperationalError: if the work was not done in time.
    """
    done: Future[Returned] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as exc:
            done.set_exception(exc)

    _helper().jobs.put(run)
    try:
        return done.result(seconds)
    except Late:
        if done.done():  # just now, or this is what the work raised
            return done.result()
        raise OperationalError(f"No answer within {seconds} seconds.") from None


class _Helper(threading.Thread):
    """Works for one caller at a time; to start a thread takes longer than to publish a task."""

    def __init__(self) -> None:
        super().__init__(name="rapidsms_db_router-publisher", daemon=True)
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def run(self) -> None:
        while True:
            self.jobs.get()()
            if len(_idle) >= MOST_IDLE:
                break
            _idle.append(self)


#: Helpers that wait for work.
_idle: list[_Helper] = []
# a forked child has none of its parent's threads
os.register_at_fork(after_in_child=_idle.clear)


def _helper() -> _Helper:
    with suppress(IndexError):  # there is none, or another thread was faster
        return _idle.pop()
    helper = _Helper()
    helper.start()
    return helper


#: By app: where its broker is, and what publishes to it.
_publishers: WeakKeyDictionary[Celery, tuple[Any, Publisher]] = WeakKeyDictionary()
