"""Commits that do not wait for the disk: it is processes that die in tests, not machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

STATEMENTS = {
    "sqlite": "PRAGMA synchronous = OFF",
    "postgresql": "SET synchronous_commit = off",
}


@contextmanager
def not_waited_for() -> Iterator[None]:
    """Have no commit of the body wait for the disk."""

    def set_up(connection: Any, **_: Any) -> None:
        if statement := STATEMENTS.get(connection.vendor):
            with connection.cursor() as cursor:
                cursor.execute(statement)

    connections.close_all()
    connection_created.connect(set_up)
    yield
    connection_created.disconnect(set_up)
    connections.close_all()
