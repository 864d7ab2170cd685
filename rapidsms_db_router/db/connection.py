"""The one database that messages are written to, and that says what is true."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model


@cache
def _message() -> type[Model]:
    # by name: the models stand above this module
    return apps.get_model("rapidsms_db_router", "Message")


def alias() -> str:
    """Return its name in ``DATABASES``."""
    return router.db_for_write(_message())


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


def table(model: type[Model]) -> str:
    """Return the quoted name of a model's table."""
    return connection().ops.quote_name(model._meta.db_table)


def run(statement: str, **values: Any) -> int:
    """Run a statement written by hand; return how many rows it was about.

    For what runs with every batch and every message: Django takes longer to put such a statement
    together than the database to run it.
    """
    with connection().cursor() as cursor:
        cursor.execute(statement, _adapted(values))
        count: int = cursor.rowcount
    return count


def rows_of(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Like :func:`run`, but return the rows."""
    with connection().cursor() as cursor:
        cursor.execute(statement, _adapted(values))
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _adapted(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as the database takes them."""
    database = connection()
    for name, value in values.items():
        if isinstance(value, datetime.datetime):
            values[name] = database.ops.adapt_datetimefield_value(value)
        elif isinstance(value, uuid.UUID) and not database.features.has_native_uuid_field:
            values[name] = value.hex
    return values
