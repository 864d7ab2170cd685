"""One message with its few transmissions: taken and read, or stored, in few statements.

A text that comes in and its answer are these statements and little more, and Django takes longer
to put them together than the database to run them.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from itertools import islice
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_save, pre_save
from rapidsms.models import Backend, Connection, Contact

from rapidsms_db_router.choices import Status
from rapidsms_db_router.database import alias, connection, is_postgresql, rows_of, run
from rapidsms_db_router.models import BackendState, Message, Transmission

#: What is read of an inbound message, in the order of the columns.
READ: dict[str, type[Model]] = {
    "m": Message,
    "t": Transmission,
    "c": Connection,
    "b": Backend,
    "p": Contact,
    "s": BackendState,
}


def take_inbound(message_id: int) -> Message | None:
    """Take an inbound message as :meth:`.MessageQuerySet.take_inbound` does, and read it.

    :returns: the message, with its ``stored_rows`` if it has any; ``None`` if it is not to be had.
    """
    take, values = Message.objects.to_take_inbound(message_id, uuid.uuid4())
    found: list[Any] = []
    if is_postgresql():
        found = rows_of(f"WITH m AS ({take} RETURNING *) {_select('m')} ORDER BY t.id", **values)
    elif run(take, **values):
        mine = "m.id = %(message_id)s AND m.claim = %(claim)s"
        select = f"{_select(_table(Message) + ' m')} WHERE {mine} ORDER BY t.id"
        found = rows_of(select, **values)
    message, rows = None, []
    for columns in found:
        walk = iter(columns)
        parts = {letter: _made_of(model, walk) for letter, model in READ.items()}
        message = message or parts["m"]
        if (row := parts["t"]).pk is not None:
            row.message, row.connection = message, parts["c"]
            row.connection.backend = parts["b"]
            # where Django looks for it first; None if there is none
            state = parts["s"] if parts["s"].pk is not None else None
            Backend._meta.get_field("router_state").set_cached_value(parts["b"], state)
            row.connection.contact = parts["p"] if parts["p"].pk is not None else None
            rows.append(row)
    if message is not None:
        message.stored_rows = rows or None
    return message


def _select(source: str) -> str:
    quoted = connection().ops.quote_name
    columns = ", ".join(
        f"{letter}.{quoted(field.column)}"
        for letter, model in READ.items()
        for field in model._meta.concrete_fields
    )
    return (
        f"SELECT {columns} FROM {source}"
        f" LEFT JOIN {_table(Transmission)} t ON t.message_id = %(message_id)s"
        f" LEFT JOIN {_table(Connection)} c ON c.id = t.connection_id"
        f" LEFT JOIN {_table(Backend)} b ON b.id = c.backend_id"
        f" LEFT JOIN {_table(Contact)} p ON p.id = c.contact_id"
        f" LEFT JOIN {_table(BackendState)} s ON s.backend_id = b.id"
    )


def _made_of(model: type[Model], walk: Any) -> Any:
    """Return the instance that the next columns stand for; without a primary key if it is none."""
    database, fields = connection(), model._meta.concrete_fields
    values = []
    for field, value in zip(fields, islice(walk, len(fields)), strict=True):
        column = field.cached_col
        converters = database.ops.get_db_converters(column) + column.get_db_converters(database)
        for convert in converters:
            value = convert(value, column, database)
        values.append(value)
    return model.from_db(alias(), [field.attname for field in fields], values)


def insert(message: Message, connections: Collection[Connection], claim: uuid.UUID | None) -> None:
    """Insert a message with a transmission for each connection; PostgreSQL alone can do so at once.

    :param claim: whose the transmissions are, which are P then instead of Q.
    """
    where = {"sender": Message, "instance": message, "raw": False, "using": alias()}
    pre_save.send(update_fields=None, **where)
    database = connection()
    columns: dict[str, Any] = {}
    for field in message._meta.local_concrete_fields:
        if not field.primary_key:
            value = field.pre_save(message, True)
            columns[field.column] = field.get_db_prep_save(value, database)
    status = Status.QUEUED if claim is None else Status.PROCESSING
    attempts = 0 if claim is None else 1
    stored = rows_of(
        f"WITH m AS (INSERT INTO {_table(Message)} ({', '.join(columns)})"
        f" VALUES ({', '.join(f'%({name})s' for name in columns)}) RETURNING id),"
        f" t AS (INSERT INTO {_table(Transmission)}"
        " (message_id, connection_id, status, date, updated, error, attempts, claim)"
        f" SELECT m.id, given.id, '{status.value}', %(date)s, %(updated)s, '', {attempts},"
        f" %(claim_of_rows)s::uuid FROM m, unnest(%(recipients)s::bigint[]) AS given (id)"
        " RETURNING id, connection_id, message_id) SELECT connection_id, id, message_id FROM t",
        claim_of_rows=claim,
        recipients=[each.pk for each in connections],
        **columns,
    )
    pks = {connection_id: pk for connection_id, pk, _ in stored}
    message.pk = stored[0][2]
    message._state.adding, message._state.db = False, alias()
    message.stored_rows = [
        Transmission(
            pk=pks[each.pk],
            message=message,
            connection=each,
            status=status,
            date=message.date,
            updated=message.updated,
            claim=claim,
            attempts=attempts,
        )
        for each in connections
    ]
    for row in message.stored_rows:
        row._state.adding, row._state.db = False, alias()
    post_save.send(created=True, update_fields=None, **where)


def _table(model: type[Model]) -> str:
    return connection().ops.quote_name(model._meta.db_table)
