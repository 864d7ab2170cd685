"""Finding by its date where rows begin, without an index on dates."""

from __future__ import annotations

import datetime

from rapidsms_db_router.db.connection import connection
from rapidsms_db_router.models import Message, Transmission

#: Halves the range of keys until the first row of its upper half is the one that is looked for.
SQL = """
WITH RECURSIVE bisected (low, high) AS (
    SELECT MIN(id), MAX(id) + 1 FROM {table}
    UNION ALL
    SELECT
        CASE WHEN {date} < %(moment)s THEN {middle} + 1 ELSE low END,
        CASE WHEN {date} < %(moment)s THEN high ELSE {middle} END
    FROM bisected
    WHERE low < high
)
SELECT MAX(low) FROM bisected
"""
MIDDLE = "((low + high) >> 1)"
DATE = "(SELECT {table}.date FROM {table} WHERE {table}.id >= {middle} ORDER BY {table}.id LIMIT 1)"


def key_since(moment: datetime.datetime, model: type[Transmission] | type[Message]) -> int:
    """Return the primary key before which all rows were stored before a moment.

    One query of some 50 look-ups by primary key, of however many rows: the later a row was stored,
    the larger is its primary key.

    :param model: which rows.
    :returns: 0 if there is no row.
    """
    database = connection()
    table = database.ops.quote_name(model._meta.db_table)
    date = DATE.format(table=table, middle=MIDDLE)
    sql = SQL.format(table=table, date=date, middle=MIDDLE)
    with database.cursor() as cursor:
        cursor.execute(sql, {"moment": database.ops.adapt_datetimefield_value(moment)})
        found: tuple[int | None] = cursor.fetchone()
    return found[0] or 0
