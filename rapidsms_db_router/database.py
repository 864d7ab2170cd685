"""The one database that messages are written to, and that says what is true."""

from __future__ import annotations

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper


def alias() -> str:
    """Return its name in ``DATABASES``."""
    from rapidsms_db_router.models import Message  # whose dates come from its clock

    return router.db_for_write(Message)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to it."""
    return connections[alias()]
