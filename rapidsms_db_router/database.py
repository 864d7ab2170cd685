"""The one database that messages are written to, and that says what is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


def alias() -> str:
    """Return its name in ``DATABASES``."""
    from rapidsms_db_router.models import Message  # whose dates come from its clock

    return router.db_for_write(Message)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to it."""
    return connections[alias()]


@contextmanager
def contained() -> Iterator[None]:
    """Keep a database error in the body from spoiling a transaction around it."""
    if connection().in_atomic_block:
        with transaction.atomic(using=alias()):
            yield
    else:
        yield
