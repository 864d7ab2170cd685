"""The old tables: whether they can be read, and their rows in chunks of primary keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rapidsms_db_router.db.connection import alias, connection, rows_of, table
from rapidsms_db_router.models import Message, Transmission

#: The columns of the old tables that are read.
DATES = {"date", "updated", "sent", "delivered"}
COLUMNS = {
    "db_message": DATES | {"id", "status", "direction", "text", "external_id", "in_response_to_id"},
    "db_transmission": DATES | {"id", "status", "message_id", "connection_id"},
}
MODELS = {"db_message": Message, "db_transmission": Transmission}


class NoOldTables(Exception):
    """There is nothing to be taken over."""


class OtherRows(Exception):
    """This app has rows of its own with the primary keys of old rows."""


class Span(NamedTuple):
    """Rows that are done together: primary keys, from and to."""

    first: int
    last: int
    #: How many old rows have one of them.
    rows: int


def check() -> None:
    """Check that the old tables are there, beside those of this app.

    :raises NoOldTables: naming what is missing.
    """
    database = connection()
    with database.cursor() as cursor:
        there = set(database.introspection.table_names(cursor))
        for table, columns in COLUMNS.items():
            if table not in there:
                raise NoOldTables(f"Database {alias()!r} has no table {table}.")
            found = {
                column.name
                for column in database.introspection.get_table_description(cursor, table)
            }
            if missing := columns - found:
                raise NoOldTables(f"Table {table} has no column {', '.join(sorted(missing))}.")


def last_key(table: str) -> int:
    """Return the largest primary key of a table; 0 if it is empty."""
    ((last,),) = rows_of(f"SELECT COALESCE(MAX(id), 0) FROM {table}")
    return int(last)


def count(table: str, span: Span | None = None) -> int:
    """Return how many rows a table has, in all or in a span."""
    among = "" if span is None else f" WHERE id BETWEEN {span.first} AND {span.last}"
    ((number,),) = rows_of(f"SELECT COUNT(*) FROM {table}{among}")
    return int(number)


def count_by_status(old: str) -> dict[str, int]:
    """Return how many rows of an old table have each status."""
    return dict(rows_of(f"SELECT status, COUNT(*) FROM {old} GROUP BY status ORDER BY status"))


def count_here(old: str) -> int:
    """Return how many rows of an old table are in the table of this app."""
    ((number,),) = rows_of(
        f"SELECT COUNT(*) FROM {old} o JOIN {table(MODELS[old])} n ON n.id = o.id"
    )
    return int(number)


def spans(table: str, size: int, last: int) -> Iterator[Span]:
    """Yield the rows of an old table in chunks.

    :param size: the rows of a chunk.
    :param last: the primary key after which no row is looked at.
    """
    after = 0
    while after < last:
        ends = rows_of(
            f"SELECT id FROM {table} WHERE id > %(after)s AND id <= %(last)s"
            f" ORDER BY id LIMIT 1 OFFSET {size - 1}",
            after=after,
            last=last,
        )
        end = ends[0][0] if ends else last
        span = Span(after + 1, end, size)
        yield span if ends else span._replace(rows=count(table, span))
        after = end
