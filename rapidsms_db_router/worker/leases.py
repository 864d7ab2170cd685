"""The leases of what a worker's tasks have claimed."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from rapidsms_db_router import conf
from rapidsms_db_router.models import Message
from rapidsms_db_router.models.lease import lease

logger = logging.getLogger(__name__)

#: Leases are renewed no more often than this, in seconds.
SHORTEST = 0.05
#: Messages whose apps are running in this process, by claim token.
_held: dict[uuid.UUID, int] = {}
_starting = threading.Lock()
_thread: threading.Thread | None = None


@contextmanager
def renewed(message_id: int, token: uuid.UUID) -> Iterator[None]:
    """Renew the lease of an inbound message while the body runs.

    :param message_id: the message.
    :param token: the claim under which the caller has it.
    """
    _held[token] = message_id
    _start()
    try:
        yield
    finally:
        del _held[token]


def _start() -> None:
    global _thread
    with _starting:
        # a forked child has its parent's thread only as an object
        if _thread is None or not _thread.is_alive():
            name = "rapidsms_db_router-leases"
            _thread = threading.Thread(target=_renew, name=name, daemon=True)
            _thread.start()


def _renew() -> None:
    last = time.monotonic()
    while True:
        interval = _interval()
        time.sleep(min(interval, 1.0))
        if not _held or time.monotonic() - last < interval:
            continue
        last = time.monotonic()
        held = dict(_held)
        try:
            rows = Message.objects.filter(pk__in=held.values(), claim_token__in=held)
            rows.update(recover_at=lease())
        except Exception as exc:  # the database may be back for the next renewal
            logger.warning("renewal_failed error=%s", type(exc).__name__)
        connections.close_all()


def _interval() -> float:
    """Return how often leases are renewed: three times until one that is not renewed has ended."""
    try:
        return max(conf.visibility_timeout() / 3, SHORTEST)
    except (TypeError, ValueError):  # the check E004 says what is wrong; the thread goes on
        return SHORTEST
