"""One clock for all workers: the database's.

Due dates are written by one process and read by another, and machines' clocks differ. Each
process asks the database what time it is, once an hour, and counts from there.
"""

from __future__ import annotations

import datetime
import time

from django.conf import settings
from django.db import connections, router
from django.utils import timezone

#: How long to count before asking again, in seconds.
TRUSTED_FOR = 3600.0

#: What says how many seconds have passed since 1970. SQLite has no clock but the process's own.
QUERIES = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
}


_asked_at = float("-inf")
_epoch = 0.0


def now() -> datetime.datetime:
    """Return the database's time, aware or naive as ``USE_TZ`` has it."""
    global _asked_at, _epoch
    if time.monotonic() - _asked_at > TRUSTED_FOR:
        _epoch, _asked_at = _ask(), time.monotonic()
    counted = _epoch + time.monotonic() - _asked_at
    moment = datetime.datetime.fromtimestamp(counted, tz=datetime.timezone.utc)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def _ask() -> float:
    from rapidsms_db_router.models import Message

    connection = connections[router.db_for_write(Message)]
    query = QUERIES.get(connection.vendor)
    if query is None:
        return time.time()
    with connection.cursor() as cursor:
        cursor.execute(query)
        return float(cursor.fetchone()[0])
