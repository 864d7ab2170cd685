"""The connection to the database that a worker's thread keeps from task to task.

Where Django has a pool of connections, a thread gives its connection back after each task and each
step: a pool may be smaller than the number of threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery.signals import worker_init
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from kombu.utils.compat import detect_environment

from rapidsms_db_router.db.connection import alias

#: A connection that was used this long ago is asked whether it still works, in seconds.
TRUSTED_FOR = 1.0
#: No connection is kept for longer, in seconds.
LONGEST_KEPT = 600.0

_kept = threading.local()
_in_worker = False


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
    if _is_pooled(connection):
        connection.close()  # not by Celery, which would close the pool, too
        return
    _kept.connection = connection, _kept.opened, time.monotonic()


def give_back() -> None:
    """Give this thread's connections of a pool back; those that are of none stay open."""
    for connection in connections.all(initialized_only=True):
        if _is_pooled(connection):
            connection.close()


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    return bool(connection.settings_dict["OPTIONS"].get("pool"))


def _forget_pools() -> None:
    """Have a forked child begin without its parent's pools.

    Their threads are not there in the child, and to close one would end the connections that its
    parent uses.
    """
    module = sys.modules.get("django.db.backends.postgresql.base")
    pools = getattr(getattr(module, "DatabaseWrapper", None), "_connection_pools", {})
    _of_parent.extend(pools.values())
    pools.clear()


#: Never collected: a pool would wait for its threads.
_of_parent: list[Any] = []
os.register_at_fork(after_in_child=_forget_pools)


@worker_init.connect
def _worker_starts(**_: Any) -> None:
    global _in_worker
    # green threads come and go with their tasks
    _in_worker = detect_environment() == "default"
