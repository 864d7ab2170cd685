"""Storing the transmissions and batches of a broadcast without bringing them into Python.

The recipients of a broadcast are in the database already, so it copies them itself (``INSERT ...
SELECT``), and divides them with one window query; both cost a fraction of what it costs to build
objects of them. All values that are the same for every row come from the message's own row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import Model, QuerySet
from rapidsms.models import Connection

from rapidsms_db_router.choices import Status
from rapidsms_db_router.database import alias, connection, is_postgresql
from rapidsms_db_router.models import Batch, Message, Transmission

#: What makes a JSON list of a column, where there are no arrays.
JSON_LISTS = {"mysql": "JSON_ARRAYAGG(id)", "sqlite": "json_group_array(id)"}


def insert_for_queryset(message: Message, recipients: QuerySet[Connection]) -> int:
    """Insert a transmission, Q, for each connection a QuerySet selects; return how many."""
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

    Those that have one already, and those that are gone, get none.
    """
    marks = ", ".join(["%s"] * len(ids))
    chosen = (
        f"SELECT c.id FROM {_table(Connection)} c WHERE c.id IN ({marks}) AND NOT EXISTS"
        f" (SELECT 1 FROM {_table(Transmission)} t"
        " WHERE t.message_id = %s AND t.connection_id = c.id)"
    )
    return _insert(message, chosen, (*ids, message.pk))


def _insert(message: Message, chosen: str, params: Sequence[Any]) -> int:
    sql = (
        f"INSERT INTO {_table(Transmission)}"
        " (message_id, connection_id, status, date, updated, error, attempts)"
        f" SELECT m.id, chosen.id, '{Status.QUEUED.value}', m.date, m.updated, '', 0"
        f" FROM ({chosen}) chosen, {_table(Message)} m WHERE m.id = %s"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, (*params, message.pk))
        count: int = cursor.rowcount
    return count


def insert_batches(
    message: Message,
    *,
    size: int,
    sizes: Mapping[int, int],
    window: int,
    at_once: Collection[int] | None,
) -> None:
    """Divide a message's transmissions that are Q by backend and into batches, and insert those.

    :param size: most transmissions in a batch.
    :param sizes: the same for backends that have their own, by primary key.
    :param window: how many batches of each backend are due; when, the message says.
    :param at_once: primary keys of backends of which all are due; ``None`` for all backends.
    """
    most = str(int(size))
    if sizes:
        own = " ".join(f"WHEN {int(key)} THEN {int(value)}" for key, value in sizes.items())
        most = f"CASE c.backend_id {own} ELSE {most} END"
    due = "1 = 1" if at_once is None else f"chosen.number < {int(window)}"
    if at_once:
        due += f" OR chosen.backend_id IN ({', '.join(str(int(key)) for key in at_once)})"

    def of_message(column: str) -> str:
        # not joined: it would be looked up for each transmission
        return f"(SELECT m.{column} FROM {_table(Message)} m WHERE m.id = %s)"

    rows = (
        f"{_table(Transmission)} t JOIN {_table(Connection)} c ON c.id = t.connection_id"
        f" WHERE t.message_id = %s AND t.status = '{Status.QUEUED.value}'"
    )
    if is_postgresql():
        # cut out of one array: neither a window nor a second sort
        ids = "whole.ids[number * whole.most + 1 : (number + 1) * whole.most]"
        batches = (
            f"SELECT whole.backend_id, number, to_jsonb({ids}) AS ids, ({ids})[1] AS first_id"
            f" FROM (SELECT c.backend_id, {most} AS most, array_agg(t.id ORDER BY t.id) AS ids"
            f" FROM {rows} GROUP BY c.backend_id) whole,"
            " generate_series(0, (cardinality(whole.ids) - 1) / whole.most) number"
        )
    else:
        batches = (
            f"SELECT backend_id, number, {JSON_LISTS[connection().vendor]} AS ids,"
            " MIN(id) AS first_id FROM (SELECT placed.id, placed.backend_id,"
            " (placed.place - placed.place %% placed.most) / placed.most AS number"
            " FROM (SELECT t.id, c.backend_id, ROW_NUMBER() OVER"
            f" (PARTITION BY c.backend_id ORDER BY t.id) - 1 AS place, {most} AS most"
            f" FROM {rows}) placed) numbered GROUP BY backend_id, number"
        )
    sql = (
        f"INSERT INTO {_table(Batch)} (message_id, backend_id, transmission_ids,"
        " first_id, number, due, called, calls, whole, gave_turn, errored)"
        f" SELECT %s, chosen.backend_id, chosen.ids, chosen.first_id, chosen.number,"
        f" CASE WHEN {due} THEN {of_message('due')} END,"
        f" CASE WHEN {due} THEN {of_message('updated')} END,"
        f" CASE WHEN {due} THEN 1 ELSE 0 END, FALSE, FALSE, FALSE"
        f" FROM ({batches}) chosen ORDER BY chosen.number, chosen.backend_id"
    )
    with connection().cursor() as cursor:
        cursor.execute(sql, [message.pk] * sql.count("%s"))


def _table(model: type[Model]) -> str:
    return connection().ops.quote_name(model._meta.db_table)
