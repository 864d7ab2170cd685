"""How each database says what all of them can do: clean a value, and make a checksum of a row."""

from __future__ import annotations

import zlib
from typing import Any

from rapidsms_db_router.db.connection import connection
from rapidsms_db_router.db.text import REPLACEMENT, clean_text

#: Dates that Python can read, whatever the time zone.
FIRST, LAST = "0001-01-03", "9999-12-29"


class Dialect:
    """PostgreSQL: its columns hold no NUL, and dates that Python has no words for."""

    #: Rows that are copied in one transaction, and compared by one statement.
    chunk, compared = 20_000, 100_000
    #: How long to wait after a chunk for others that write, in times of what it took.
    pause = 0.0
    #: What follows an INSERT that leaves out what is there.
    ignore = " ON CONFLICT DO NOTHING"
    #: What makes a number of a text.
    hashed = "hashtextextended({}, 0)"

    def date(self, column: str) -> str:
        """Return the expression of a date; NULL for what is none."""
        return f"CASE WHEN {column} BETWEEN '{FIRST}' AND '{LAST}' THEN {column} END"

    def text(self, column: str) -> str:
        """Return the expression of a text without what not every database can hold."""
        return column

    def is_unclean(self, column: str) -> str:
        """Return the condition that a text is changed by that."""
        return "FALSE"

    def checksum(self, *values: str) -> str:
        """Return the expression of a number that stands for values, any of them NULL."""
        return self.hashed.format(f"CONCAT_WS('|', {', '.join(values)})")

    def concat(self, *values: str) -> str:
        """Return the expression of texts and numbers one after the other."""
        return f"CONCAT({', '.join(values)})"

    def prepare(self) -> None:
        """Make the connection ready for these expressions."""


class MariaDB(Dialect):
    """MariaDB and MySQL: dates of zeros, and other character sets."""

    # a key that is there is left as it is; IGNORE would ignore every other error, too
    ignore = " ON DUPLICATE KEY UPDATE id = {table}.id"
    hashed = "CRC32(CONVERT({} USING utf8mb4))"
    chunk = 10_000

    def date(self, column: str) -> str:
        # an old table may have no microseconds
        return f"CASE WHEN {column} > '{FIRST}' THEN CAST({column} AS DATETIME(6)) END"

    def text(self, column: str) -> str:
        return f"REPLACE({column}, CHAR(0 USING utf8mb4), '{REPLACEMENT}')"

    def is_unclean(self, column: str) -> str:
        return f"INSTR({column}, CHAR(0 USING utf8mb4)) > 0"


class SQLite(Dialect):
    """SQLite: any value in any column, and one writer at a time."""

    chunk, compared, pause = 2_000, 50_000, 1.0

    def date(self, column: str) -> str:
        seconds = f"substr(replace({column}, 'T', ' '), 1, 19)"
        # a modifier has 30 February become a day of March
        is_date = f"datetime({seconds}, '+0 days') = {seconds}"
        return f"CASE WHEN {column} > '{FIRST}' AND {is_date} THEN {column} END"

    def text(self, column: str) -> str:
        return f"router_text({column})"

    def is_unclean(self, column: str) -> str:
        return f"({column} <> router_text({column}))"

    def checksum(self, *values: str) -> str:
        return f"router_checksum({', '.join(values)})"

    def concat(self, *values: str) -> str:
        return f"({' || '.join(values)})"

    def prepare(self) -> None:
        database = connection()
        database.ensure_connection()
        for name, count, function in (
            ("router_text", 1, _text),
            ("router_checksum", -1, _checksum),
        ):
            database.connection.create_function(name, count, function, deterministic=True)


def _text(value: Any) -> str:
    return clean_text("" if value is None else value)


def _checksum(*values: Any) -> int:
    said = "|".join(str(value) for value in values if value is not None)
    return zlib.crc32(said.encode("utf-8", "replace"))


DIALECTS = {"postgresql": Dialect(), "mysql": MariaDB(), "sqlite": SQLite()}


def dialect() -> Dialect:
    """Return the dialect of the database that messages are stored in, ready to be used."""
    found = DIALECTS[connection().vendor]
    found.prepare()  # each time: a connection that was lost is made again
    return found
