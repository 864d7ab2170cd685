"""One clock for all workers: the database's.

Dates are written by one process and read by another, and machines' clocks differ. Each
process asks the database what time it is, once an hour, and counts from there.
"""

from __future__ import annotations

import datetime
import time

from django.conf import settings

from rapidsms_db_router.db.connection import connection

#: How long to count before asking again, in seconds.
TRUSTED_FOR = 3600.0
#: How far the machine's two clocks may drift apart before asking again, in seconds.
DRIFT = 1.0

#: What says how many seconds have passed since 1970. SQLite has no clock but the process's own.
QUERIES = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6",
}


_asked_at = float("-inf")
_wall = 0.0
_epoch = 0.0


def now() -> datetime.datetime:
    """Return the database's time, aware or naive as ``USE_TZ`` has it."""
    global _asked_at, _wall, _epoch
    passed = time.monotonic() - _asked_at
    # a machine that was suspended has not counted
    if passed > TRUSTED_FOR or abs(time.time() - _wall - passed) > DRIFT:
        _epoch, _asked_at, _wall, passed = _ask(), time.monotonic(), time.time(), 0.0
    # a naive one is in TIME_ZONE, whatever an app has activated
    zone = datetime.timezone.utc if settings.USE_TZ else None
    return datetime.datetime.fromtimestamp(_epoch + passed, tz=zone)


def _ask() -> float:
    query = QUERIES.get(connection().vendor)
    if query is None:
        return time.time()
    with connection().cursor() as cursor:
        cursor.execute(query)
        return float(cursor.fetchone()[0])
