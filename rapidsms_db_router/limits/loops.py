"""Reply loops: two programs that answer each other without end.

A process counts in memory the replies that it stores, by connection and text. Only once that is
more than a tenth of the limit, it looks in the database, which knows the replies of all processes.
So a usual reply costs no statement.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections import Counter
from typing import Any

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.text import clean_text
from rapidsms_db_router.models import Transmission

#: Replies of this time count, in seconds.
WINDOW = 300.0
#: The error of a reply that is one too many.
REASON = "reply loop: this connection has had the same reply too often in five minutes"
#: A process looks in the database once it has stored more than the limit divided by this.
SUSPICIOUS = 10
#: A process remembers at most this many pairs of connection and text, two times.
MOST = 50_000


class Recent:
    """Counts what happened in the last one to two windows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self._began = time.monotonic()
        self._before: Counter[tuple[int, int]] = Counter()
        self._now: Counter[tuple[int, int]] = Counter()

    def count(self, key: tuple[int, int]) -> int:
        """Count one more; return how many there were."""
        with self._lock:
            moment = time.monotonic()
            if moment - self._began > WINDOW or len(self._now) >= MOST:
                recent = moment - self._began <= 2 * WINDOW
                self._before, self._now = (self._now if recent else Counter()), Counter()
                self._began = moment
            self._now[key] += 1
            return self._now[key] + self._before[key]


_recent = Recent()
forget = _recent.forget


def is_loop(msg: Any) -> bool:
    """Return whether a reply is one too many: its connections have had as many as the limit allows.

    Replies that were not let through do not count.

    :param msg: RapidSMS's message object, which is about to be stored.
    """
    limit = conf.loop_limit()
    if not limit or msg.in_response_to is None or not isinstance(msg.connections, list):
        return False
    text = clean_text(msg.text)
    # each is counted, whatever is known of the others
    loops = [_has_had(connection.pk, text, limit) for connection in msg.connections]
    return bool(loops) and all(loops)


def _has_had(connection_id: int, text: str, limit: int) -> bool:
    if _recent.count((connection_id, hash(text))) <= limit // SUSPICIOUS:
        return False
    same = Transmission.objects.filter(
        connection=connection_id,
        date__gt=now() - datetime.timedelta(seconds=WINDOW),
        message__direction=Direction.OUTGOING,
        message__text=text,
    )
    return same.exclude(status=Status.ERRORED)[:limit].count() >= limit
