"""PostgreSQL's own statements: fewer of them, whose plans depend on no statistics.

Every statement finds its rows by ``id = ANY(...)``, or by the index of claimable batches: the
planner has no choice to make, also on statistics of an empty table.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_save, pre_save
from rapidsms.models import Backend, Connection, Contact

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, connection, rows_of, run, table
from rapidsms_db_router.engine.portable import Portable, Recipient
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.lease import lease

#: What is read of an inbound message, in the order of the columns.
READ: dict[str, type[Model]] = {
    "m": Message,
    "t": Transmission,
    "c": Connection,
    "b": Backend,
    "p": Contact,
}


class PostgreSQL(Portable):
    """Statements with ``RETURNING``, arrays and ``SKIP LOCKED``."""

    # Inbound

    def claim_inbound(self, message_id: int, token: uuid.UUID) -> Message | None:
        """See :meth:`.Portable.claim_inbound`; one statement."""
        claim = f"WITH m AS ({self.claim_inbound_sql()} RETURNING *) {_select()}"
        found = rows_of(claim, **self.claim_inbound_values(message_id, token))
        message, rows = None, []
        for columns in found:
            values = iter(columns)
            parts = {letter: _instance(model, values) for letter, model in READ.items()}
            message = message or parts["m"]
            # unless the connection was deleted meanwhile
            if (row := parts["t"]).pk is not None and parts["c"].pk is not None:
                row.message, row.connection = message, parts["c"]
                row.connection.backend = parts["b"]
                row.connection.contact = parts["p"] if parts["p"].pk is not None else None
                rows.append(row)
        if message is not None:
            # where Django itself keeps what prefetch_related() has read
            prefetched = message.transmissions.all()
            prefetched._result_cache, prefetched._prefetch_done = rows, True
            message._prefetched_objects_cache = {"transmissions": prefetched}
        return message

    def finish_inbound(
        self, message_id: int, token: uuid.UUID, status: Status, error: str = ""
    ) -> bool:
        """See :meth:`.Portable.finish_inbound`; one statement."""
        finished = rows_of(
            f"WITH m AS (UPDATE {table(Message)} SET status = %(status)s, claim_token = NULL,"
            " recover_at = NULL, error = %(error)s, updated = %(moment)s"
            " WHERE id = %(message_id)s AND claim_token = %(token)s AND status = 'Q'"
            " RETURNING id), t AS"
            f" (UPDATE {table(Transmission)} SET status = %(status)s, updated = %(moment)s"
            " WHERE message_id IN (SELECT id FROM m)) SELECT id FROM m",
            message_id=message_id,
            token=token,
            status=status.value,
            error=error,
            moment=now(),
        )
        return bool(finished)

    # Storing

    def insert(
        self, message: Message, connections: Collection[Connection], batch: Batch | None
    ) -> list[Recipient]:
        """See :meth:`.Portable.insert`; one statement."""
        told = {"sender": Message, "instance": message, "raw": False, "using": alias()}
        pre_save.send(update_fields=None, **told)
        columns = _columns(message)
        rows = (
            f"WITH m AS (INSERT INTO {table(Message)} ({', '.join(columns)})"
            f" VALUES ({', '.join(f'%({name})s' for name in columns)}) RETURNING id),"
            f" t AS (INSERT INTO {table(Transmission)}"
            " (message_id, connection_id, status, date, updated, error, attempts)"
            " SELECT m.id, given.id, 'Q', %(date)s, %(updated)s, '', 0"
            " FROM m, unnest(%(recipients)s::bigint[]) AS given (id)"
            " RETURNING id, connection_id, message_id)"
        )
        values: dict[str, Any] = {**columns, "recipients": [each.pk for each in connections]}
        batch_id = "NULL::bigint"
        if batch is not None:
            of_batch = _columns(batch, without=("message_id", "transmission_ids"))
            values |= {f"batch_{name}": value for name, value in of_batch.items()}
            rows += (
                f", b AS (INSERT INTO {table(Batch)}"
                f" (message_id, transmission_ids, {', '.join(of_batch)})"
                " SELECT (SELECT id FROM m), (SELECT jsonb_agg(id ORDER BY id) FROM t),"
                f" {', '.join(f'%(batch_{name})s' for name in of_batch)} RETURNING id)"
            )
            batch_id = "(SELECT id FROM b)"
        stored = rows_of(
            f"{rows} SELECT id, connection_id, message_id, {batch_id} FROM t", **values
        )
        message.pk = stored[0][2]
        _saved(message)
        identities = {each.pk: each.identity for each in connections}
        recipients = [Recipient(pk, to, identities[to], 0) for pk, to, *_ in sorted(stored)]
        if batch is not None:
            batch.pk, batch.message = stored[0][3], message
            batch.transmission_ids = [row.id for row in recipients]
            _saved(batch)
        post_save.send(created=True, update_fields=None, **told)
        return recipients

    def batches_sql(self, most: str, rows: str) -> str:
        """See :meth:`.Portable.batches_sql`; cut out of one array: no window, no second sort."""
        ids = "whole.ids[number * whole.most + 1 : (number + 1) * whole.most]"
        return (
            f"SELECT whole.backend_id, number, to_jsonb({ids}) AS ids"
            f" FROM (SELECT c.backend_id, {most} AS most, array_agg(t.id ORDER BY t.id) AS ids"
            f" FROM {rows} GROUP BY c.backend_id) whole,"
            " generate_series(0, (cardinality(whole.ids) - 1) / whole.most) number"
        )

    # Sending

    def claim_batches(
        self,
        backend_id: int,
        token: uuid.UUID,
        most: int,
        only: Collection[int] | None = None,
        *,
        replies: bool = False,
        trial: bool = False,
    ) -> list[Batch]:
        """See :meth:`.Portable.claim_batches`; one statement."""
        among = "" if only is None else " AND id = ANY(%(only)s::bigint[])"
        among += " AND position < 0" if replies else ""
        claimed = rows_of(
            f"UPDATE {table(Batch)} SET claim_token = %(token)s, recover_at = %(recover_at)s"
            # not of an unclaimed one: the planner would walk along the index of all those
            f" WHERE id = ANY(ARRAY(SELECT id FROM {table(Batch)}"
            "  WHERE backend_id = %(backend_id)s AND claim_token IS NULL"
            f"  AND ready_at <= %(moment)s AND NOT paused{among}"
            f"  ORDER BY {'ready_at' if trial else 'position'}, id"
            "  LIMIT %(most)s FOR UPDATE SKIP LOCKED))"
            " RETURNING position, id, message_id, transmission_ids, whole, errored",
            backend_id=backend_id,
            token=token,
            recover_at=lease(),
            moment=now(),
            most=most,
            only=None if only is None else list(only),
        )
        return [
            Batch(
                pk=pk,
                message_id=message_id,
                backend_id=backend_id,
                transmission_ids=json.loads(ids),
                position=position,
                claim_token=token,
                whole=whole,
                errored=errored,
            )
            for position, pk, message_id, ids, whole, errored in sorted(claimed)
        ]

    def hold(self, batches: Mapping[int, uuid.UUID]) -> dict[int, bool]:
        """See :meth:`.Portable.hold`; a lock without a write."""
        held = rows_of(
            f"SELECT id, paused FROM {table(Batch)} WHERE id = ANY(%(ids)s::bigint[])"
            " AND claim_token = ANY(%(tokens)s::uuid[]) ORDER BY id FOR NO KEY UPDATE",
            ids=list(batches),
            tokens=list(set(batches.values())),
        )
        return dict(held)

    def recipients(self, ids: Sequence[int], backend_id: int) -> list[Recipient]:
        """See :meth:`.Portable.recipients`."""
        # not joined: the plan of a join may read most connections for one batch
        identity = (
            f"SELECT identity FROM {table(Connection)} c WHERE c.id = connection_id"
            # an expression: by the backend's index all of its connections would be read
            " AND c.backend_id + 0 = %(backend_id)s"
        )
        named, values = _named(ids)
        found = rows_of(
            f"SELECT id, connection_id, ({identity}), attempts, error <> ''"
            f" FROM {table(Transmission)}"
            f" WHERE {named} AND status = 'Q'",
            **values,
            backend_id=backend_id,
        )
        return [Recipient(*row) for row in found if row[2] is not None]

    def mark_processing(self, ids: Sequence[int]) -> set[int]:
        """See :meth:`.Portable.mark_processing`; one statement."""
        named, values = _named(ids)
        moved = rows_of(
            f"UPDATE {table(Transmission)} SET status = 'P', attempts = attempts + 1,"
            f" updated = %(moment)s WHERE {named} AND status = 'Q' RETURNING id",
            **values,
            moment=now(),
        )
        return {pk for (pk,) in moved}

    def mark_sent(
        self, ids: Sequence[int], moment: datetime.datetime, external_ids: Mapping[int, str]
    ) -> int:
        """See :meth:`.Portable.mark_sent`; one statement."""
        named, values = _named(ids)
        written = "status = 'S', sent = %(moment)s, error = '', updated = %(moment)s"
        said = condition = ""
        if external_ids:
            written += ", external_id = coalesce(said.external_id, t.external_id)"
            said = " FROM unnest(%(keys)s::bigint[], %(said)s::text[]) AS said (key, external_id)"
            condition = " AND id = said.key"
            values |= {"keys": list(ids), "said": [external_ids.get(pk) for pk in ids]}
        return run(
            f"UPDATE {table(Transmission)} t SET {written}{said}"
            f" WHERE {named}{condition} AND status IN ('P', 'Q')",
            **values,
            moment=moment,
        )

    def note_external_ids(self, external_ids: Mapping[int, str]) -> None:
        """See :meth:`.Portable.note_external_ids`; one statement."""
        named, values = _named(list(external_ids))
        run(
            f"UPDATE {table(Transmission)} SET external_id = said.external_id"
            " FROM unnest(%(keys)s::bigint[], %(said)s::text[]) AS said (key, external_id)"
            f" WHERE {named} AND id = said.key",
            **values,
            keys=list(external_ids),
            said=list(external_ids.values()),
        )

    def mark_errored(self, failed: Mapping[int, tuple[str, datetime.datetime | None]]) -> None:
        """See :meth:`.Portable.mark_errored`; one statement."""
        named, values = _named(list(failed))
        run(
            f"UPDATE {table(Transmission)} SET status = 'E', error = said.error,"
            " next_try = said.next_try, updated = %(moment)s"
            " FROM unnest(%(keys)s::bigint[], %(errors)s::text[], %(dates)s::timestamptz[])"
            " AS said (key, error, next_try)"
            f" WHERE {named} AND status = 'P' AND id = said.key",
            **values,
            keys=list(failed),
            errors=[error for error, _ in failed.values()],
            dates=[date for _, date in failed.values()],
            moment=now(),
        )

    def delete_batches(self, ids: Collection[int]) -> None:
        """See :meth:`.Portable.delete_batches`."""
        run(f"DELETE FROM {table(Batch)} WHERE id = ANY(%(ids)s::bigint[])", ids=list(ids))


def _named(ids: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """Return the SQL condition that a transmission is one of these, and its values.

    Of ids alone the planner, without statistics, expects each on a page of its own, and prefers to
    read the whole table; of their range it does not.
    """
    named, first, last = "id BETWEEN %(first)s AND %(last)s", min(ids), max(ids)
    values: dict[str, Any] = {"first": first, "last": last}
    if last - first + 1 > len(set(ids)):
        named += " AND id = ANY(%(ids)s::bigint[])"
        values["ids"] = list(ids)
    return named, values


@cache
def _select() -> str:
    quoted = connection().ops.quote_name
    columns = ", ".join(
        f"{letter}.{quoted(field.column)}"
        for letter, model in READ.items()
        for field in model._meta.concrete_fields
    )
    return (
        f"SELECT {columns} FROM m"
        f" LEFT JOIN {table(Transmission)} t ON t.message_id = m.id"
        f" LEFT JOIN {table(Connection)} c ON c.id = t.connection_id"
        f" LEFT JOIN {table(Backend)} b ON b.id = c.backend_id"
        f" LEFT JOIN {table(Contact)} p ON p.id = c.contact_id ORDER BY t.id"
    )


@cache
def _reading(model: type[Model]) -> tuple[list[str], list[tuple[int, Any, Any]]]:
    """Return the names of a model's columns, and what converts which of them."""
    database, converters = connection(), []
    for place, field in enumerate(model._meta.concrete_fields):
        column = field.cached_col
        of_database = database.ops.get_db_converters(column)
        for convert in of_database + column.get_db_converters(database):
            converters.append((place, convert, column))
    return [field.attname for field in model._meta.concrete_fields], converters


def _instance(model: type[Model], values: Iterator[Any]) -> Any:
    """Return the instance that the next columns stand for; without a primary key if it is none."""
    names, converters = _reading(model)
    read, database = list(islice(values, len(names))), connection()
    for place, convert, column in converters:
        read[place] = convert(read[place], column, database)
    return model.from_db(alias(), names, read)


def _columns(instance: Model, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what an INSERT of an instance names, by column; a column that is not named is NULL."""
    columns: dict[str, Any] = {}
    database = connection()
    for field in instance._meta.local_concrete_fields:
        if not field.primary_key and field.column not in without:
            value = field.pre_save(instance, True)
            if value is not None:
                columns[field.column] = field.get_db_prep_save(value, database)
    return columns


def _saved(instance: Model) -> None:
    instance._state.adding, instance._state.db = False, alias()
