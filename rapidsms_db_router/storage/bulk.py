"""Storing the transmissions and batches of a broadcast without bringing them into Python.

The recipients of a broadcast are in the database already, so that it copies them itself (``INSERT
... SELECT``), and cuts them into batches with one query. Both cost a fraction of what it costs to
build objects of them. All values that are the same for every row come from the message's own row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from rapidsms.models import Connection

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.connection import alias, connection, table
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, Transmission


def insert_for_queryset(message: Message, recipients: QuerySet[Connection]) -> int:
    """Insert a transmission, Q, for each connection that a QuerySet selects; return how many."""
    query = recipients.using(alias()).values("id").query
    query.clear_ordering()  # unless it decides what is selected
    # a join may find the same connection many times; one table alone does not
    alone = len(query.alias_map) <= 1
    try:
        sql, params = query.get_compiler(alias()).as_sql()
    except EmptyResultSet:
        return 0
    chosen = f"SELECT {'' if alone else 'DISTINCT'} found.id FROM ({sql}) found"
    return _insert(message, chosen, params)


def insert_for_ids(message: Message, ids: Sequence[int]) -> int:
    """Insert a transmission, Q, for each connection; return how many.

    Connections that have one already, and those that are gone, get none.
    """
    marks = ", ".join(["%s"] * len(ids))
    chosen = (
        f"SELECT c.id FROM {table(Connection)} c WHERE c.id IN ({marks}) AND NOT EXISTS"
        f" (SELECT 1 FROM {table(Transmission)} t"
        " WHERE t.message_id = %s AND t.connection_id = c.id)"
    )
    return _insert(message, chosen, (*ids, message.pk))


def _insert(message: Message, chosen: str, params: Sequence[Any]) -> int:
    sql = (
        f"INSERT INTO {table(Transmission)}"
        " (message_id, connection_id, status, date, updated, error, attempts)"
        f" SELECT m.id, chosen.id, '{Status.QUEUED.value}', m.date, m.updated, '', 0"
        f" FROM ({chosen}) chosen, {table(Message)} m WHERE m.id = %s"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, (*params, message.pk))
        count: int = cursor.rowcount
    return count


def insert_batches(message: Message, *, size: int, sizes: Mapping[int, int]) -> None:
    """Cut a message's transmissions that are Q into batches, each of one backend; insert those.

    :param size: most transmissions in a batch.
    :param sizes: the same for backends that have their own, by primary key.
    """
    most = str(int(size))
    if sizes:
        own = " ".join(f"WHEN {int(key)} THEN {int(value)}" for key, value in sizes.items())
        most = f"CASE c.backend_id {own} ELSE {most} END"
    rows = (
        f"{table(Transmission)} t JOIN {table(Connection)} c ON c.id = t.connection_id"
        f" WHERE t.message_id = %s AND t.status = '{Status.QUEUED.value}'"
    )
    of_message = f"FROM {table(Message)} m WHERE m.id = %s"
    date = f"(SELECT COALESCE(m.not_before, m.date) {of_message})"
    sql = (
        f"{engine().batches_prefix()}INSERT INTO {table(Batch)}"
        " (message_id, backend_id, transmission_ids, position, due_at, ready_at, paused, whole,"
        " errored)"
        " SELECT %s, chosen.backend_id, chosen.ids, chosen.number,"
        f" {date}, {date},"
        f" (SELECT m.paused_at IS NOT NULL {of_message}), FALSE, FALSE"
        f" FROM ({engine().batches_sql(most, rows)}) chosen"
        " ORDER BY chosen.number, chosen.backend_id"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [message.pk] * sql.count("%s"))
