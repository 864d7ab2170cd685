"""The tables of ``rapidsms.router.db``, made by its own migrations, beside those of this app."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from rapidsms.models import Connection

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.moving_in import keys
from tests.faults import disks

MIGRATIONS = ("0001_initial", "0002_auto_20150801_2142")


class OldTables:
    """Rows of the old router, as its models and its own tables hold them."""

    def __init__(self, connections: list[Connection]) -> None:
        loader = MigrationLoader(connection)
        state = loader.project_state(loader.graph.leaf_nodes("rapidsms"))
        with connection.schema_editor() as editor:
            for name in MIGRATIONS:
                module = import_module(f"rapidsms.router.db.migrations.{name}")
                state = module.Migration(name, "db").apply(state, editor)
        self._apps = state.apps
        self.connections = connections

    @property
    def messages(self) -> Any:
        return self._apps.get_model("db", "Message").objects

    @property
    def transmissions(self) -> Any:
        return self._apps.get_model("db", "Transmission").objects

    def store(
        self,
        letters: str,
        direction: str = "O",
        age: datetime.timedelta = datetime.timedelta(days=400),
        **columns: Any,
    ) -> Any:
        """Store a message with one transmission for each letter, to as many connections."""
        date = now() - age
        message = self.messages.create(direction=direction, **{"text": "hello", **columns})
        self.messages.filter(pk=message.pk).update(date=date, updated=date)
        for letter, to in zip(letters, self.connections, strict=False):
            row = self.transmissions.create(
                message=message, connection_id=to.pk, status=letter, sent=date
            )
            self.transmissions.filter(pk=row.pk).update(date=date, updated=date)
        message.refresh_from_db()
        return message

    def drop(self) -> None:
        with connection.schema_editor() as editor:
            for name in ("Transmission", "Message"):
                editor.delete_model(self._apps.get_model("db", name))


@pytest.fixture
def old(transactional_db: None, people: Callable[..., list[Connection]]) -> Iterator[OldTables]:
    """The old tables; each key of this app begins at 1 again afterwards."""
    tables = OldTables(people(5))
    with disks.not_waited_for():
        yield tables
    tables.drop()
    Transmission.objects.all().delete()
    Message.objects.all().delete()
    with connection.cursor() as cursor:
        for table in keys.TABLES.values():
            for statement in keys.NEXT[connection.vendor][1]:
                if connection.vendor == "postgresql":
                    cursor.execute(f"ALTER SEQUENCE {table}_id_seq RESTART")
                else:
                    cursor.execute(statement.format(table=table, next=1))


@pytest.fixture
def move() -> Callable[..., str]:
    """A function that runs the command, and returns what it has said."""

    def move(*arguments: str) -> str:
        said = StringIO()
        call_command("import_router_db", *arguments, stdout=said)
        return said.getvalue()

    return move
