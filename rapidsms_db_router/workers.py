"""What a worker keeps from task to task: its router, and its connection to the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from celery.signals import worker_init
from django.conf import settings
from django.core.signals import setting_changed
from django.db import Error, connections
from django.dispatch import receiver
from kombu.utils.compat import detect_environment
from rapidsms.router import get_router

from rapidsms_db_router.database import alias

if TYPE_CHECKING:
    from rapidsms_db_router.router import DatabaseRouter

#: RapidSMS's tests change these without the signal.
NAMES = ("RAPIDSMS_ROUTER", "RAPIDSMS_HANDLERS", "INSTALLED_APPS", "INSTALLED_BACKENDS")

#: A connection that was used so long ago is asked whether it still works, in seconds.
TRUSTED_FOR = 1.0
#: No connection is kept for longer, in seconds.
LONGEST_KEPT = 600.0

_kept = threading.local()
_changes = 0
_in_worker = False


def router() -> DatabaseRouter:
    """Return the router of this thread, with its apps and backends.

    It is built once, and again whenever settings have changed.
    """
    made_from = _made_from()
    if getattr(_kept, "made_from", None) != made_from:
        _kept.router, _kept.made_from = get_router(), made_from
    found: DatabaseRouter = _kept.router
    return found


def _made_from() -> Any:
    values = {name: getattr(settings, name, None) for name in NAMES}
    # copies, since what they are of may be changed in place
    backends = {name: dict(of) for name, of in (values.pop("INSTALLED_BACKENDS") or {}).items()}
    handlers = list(values.pop("RAPIDSMS_HANDLERS") or ())
    return _changes, values, backends, handlers


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    global _changes
    _changes += 1


@contextmanager
def connected() -> Iterator[None]:
    """In a worker, have the body use the connection that the last such body has used.

    Celery closes all connections before and after every task, and to open one takes as long as
    all statements of a task. Tasks of others find the connections that they would find anyway.
    """
    if not _in_worker:
        yield
        return
    _take_out()
    try:
        yield
    finally:
        _put_away()


def _take_out() -> None:
    connection, opened, used = vars(_kept).pop("connection", (None, 0.0, 0.0))
    if connection is None:
        _kept.opened = time.monotonic()
        return
    moment = time.monotonic()
    worn = moment - opened > LONGEST_KEPT
    if worn or (moment - used > TRUSTED_FOR and not connection.is_usable()):
        with suppress(Error):
            connection.close()
        opened = moment
    _kept.opened = opened
    connections[alias()] = connection


def _put_away() -> None:
    connection = connections[alias()]
    # one that has met an error, or was left in the middle of something, Celery closes
    if connection.connection is None or connection.in_atomic_block or connection.errors_occurred:
        return
    del connections[alias()]
    _kept.connection = connection, _kept.opened, time.monotonic()


@worker_init.connect
def _worker_starts(**_: Any) -> None:
    global _in_worker
    # green threads come and go with their tasks
    _in_worker = detect_environment() == "default"
