"""Database errors that pass: deadlocks, locks, a server that restarts, a full disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from rapidsms_db_router.db.connection import connection

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long to go on trying to write, in seconds: a restart of the database and more.
PATIENCE = 60.0
#: Lock wait, deadlock, changed meanwhile, shutdown, full disk or table, read-only, too many
#: connections, a cluster that is not ready, no connection, connection lost.
MYSQL_CODES = {
    1020,
    1021,
    1040,
    1047,
    1053,
    1114,
    1203,
    1205,
    1213,
    1290,
    1792,
    1836,
    1927,
    2002,
    2003,
    2006,
    2013,
}
#: Connection exceptions, transaction rollback, operator intervention; a read-only server, full
#: disk, too many connections, and lock not available.
POSTGRESQL_CLASSES = ("08", "40", "57", "25006", "53100", "53300", "55P03")


def is_transient(err: BaseException) -> bool:
    """Return whether the same statements may well succeed in a moment."""
    if isinstance(err, InterfaceError):
        return True
    if not isinstance(err, DatabaseError):
        return False
    code = err.args[0] if err.args else None
    if isinstance(code, int):
        return code in MYSQL_CODES
    cause = err.__cause__
    state = getattr(cause, "sqlstate", getattr(cause, "pgcode", ""))
    if state is None:
        # psycopg has no state to tell where there is no server left to tell it
        return isinstance(err, OperationalError)
    return state.startswith(POSTGRESQL_CLASSES) or (
        isinstance(err, OperationalError) and "locked" in str(code)
    )


def insist(write: Callable[[], T], patience: float = PATIENCE) -> T:
    """Call ``write``, a transaction of its own; again while the database refuses in passing.

    For what nobody else knows.

    :param patience: for how long, in seconds.
    :raises django.db.Error: what the database raised, if it still refuses then, or at once inside
        another transaction, which only its owner can begin again.
    """
    deadline = time.monotonic() + patience
    pause = 0.05
    while True:
        try:
            return write()
        except (DatabaseError, InterfaceError) as err:
            if (
                connection().in_atomic_block
                or not is_transient(err)
                or time.monotonic() + pause > deadline
            ):
                raise
            logger.warning("database_refused error=%s", type(err).__name__)
            connection().close_if_unusable_or_obsolete()
            time.sleep(pause)
            pause = min(pause * 2, 1.0)
