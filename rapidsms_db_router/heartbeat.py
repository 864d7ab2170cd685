"""Signs of life: work that takes long is not taken from a worker that is still at it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, models

from rapidsms_db_router import conf
from rapidsms_db_router.querysets import lease

logger = logging.getLogger(__name__)

_in_hand: dict[uuid.UUID | None, tuple[type[models.Model], int]] = {}
_starting = threading.Lock()
_thread: threading.Thread | None = None


@contextmanager
def kept(model: type[models.Model], pk: int, claim: uuid.UUID | None) -> Iterator[None]:
    """Put off, while the body runs, the date on which recovery would take up what it works on.

    :param model: ``Message`` or ``Batch``.
    :param pk: the row that is worked on.
    :param claim: who works on it.
    """
    _in_hand[claim] = model, pk
    _start()
    try:
        yield
    finally:
        del _in_hand[claim]


def _start() -> None:
    global _thread
    with _starting:
        # a forked child has its parent's thread only as an object
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(
                target=_beat, name="rapidsms_db_router-heartbeat", daemon=True
            )
            _thread.start()


def _beat() -> None:
    last = time.monotonic()
    while True:
        # three signs in the time after which their absence counts
        interval = conf.visibility_timeout() / 3
        time.sleep(min(interval, 1.0))
        if not _in_hand or time.monotonic() - last < interval:
            continue
        last = time.monotonic()
        for claim, (model, pk) in list(_in_hand.items()):
            try:
                model._base_manager.filter(pk=pk, claim=claim).update(due=lease())
            except Exception as exc:  # the database may be back for the next sign
                logger.warning("heartbeat_missed error=%s", type(exc).__name__)
        connections.close_all()
