"""Where the primary keys of this app begin: above those of the old tables.

Rows keep their primary keys when they come over. So the keys of this app begin far above, from its
first migration on.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

#: The tables of ``rapidsms.router.db``, and what takes their rows.
TABLES = {
    "db_message": "rapidsms_db_router_message",
    "db_transmission": "rapidsms_db_router_transmission",
}
#: The keys that are left free for what the old router still stores.
GAP = 10_000_000

#: What each database says of the next key, and how it is told another. ``{next}`` is that key.
NEXT = {
    "postgresql": (
        "SELECT COALESCE(pg_sequence_last_value("
        "pg_get_serial_sequence('{table}', 'id')::regclass), 0) + 1",
        ("SELECT setval(pg_get_serial_sequence('{table}', 'id'), {next} - 1)",),
    ),
    "mysql": (
        "SELECT AUTO_INCREMENT FROM information_schema.TABLES"
        " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}'",
        ("ALTER TABLE {table} AUTO_INCREMENT = {next}",),
    ),
    "sqlite": (
        "SELECT COALESCE(MAX(seq), 0) + 1 FROM sqlite_sequence WHERE name = '{table}'",
        (
            "INSERT INTO sqlite_sequence (name, seq) SELECT '{table}', 0"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{table}')",
            "UPDATE sqlite_sequence SET seq = {next} - 1 WHERE name = '{table}'",
        ),
    ),
}


def begin_above(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Have the next keys of this app be far above those of the old tables, where these are there.

    Keys that are far enough above stay as they are.

    :param connection: to the database that has both.
    :returns: by table of this app the next key, of those that were changed.
    """
    changed = {}
    with connection.cursor() as cursor:
        there = set(connection.introspection.table_names(cursor))
        if not there.issuperset(TABLES):
            return {}
        asked, told = NEXT[connection.vendor]
        for old, table in TABLES.items():
            cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {old}")
            wanted = cursor.fetchone()[0] + GAP
            cursor.execute(asked.format(table=table))
            following = cursor.fetchone()[0] or 1
            # half of it may be used up before there is a need for more
            if following < wanted - GAP // 2:
                for statement in told:
                    cursor.execute(statement.format(table=table, next=wanted))
                changed[table] = wanted
    return changed
