"""Telling that messages have waited too long for a backend: once, until that is over."""

from __future__ import annotations

import datetime
import logging

from django.db.models import Min
from rapidsms.models import Backend

from rapidsms_db_router import signals
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import BackendState, Batch

logger = logging.getLogger(__name__)

#: A message that waits for longer than this, though it may be sent, is an old one.
LONGEST_WAIT = datetime.timedelta(minutes=10)


def follow() -> None:
    """Tell of each backend whose oldest message has waited too long; note where that is over.

    Nothing is read if nobody listens.
    """
    if not signals.backlog_old.has_listeners(BackendState):
        return
    moment = now()
    waiting = Batch.objects.filter(claim_token=None, ready_at__lte=moment, paused=False)
    waiting = waiting.exclude(backend__in=BackendState.objects.paused().values("backend"))
    oldest = waiting.order_by().values_list("backend").annotate(since=Min("due_at"))
    old = {pk: since for pk, since in oldest if moment - since > LONGEST_WAIT}
    BackendState.objects.exclude(backlog_since=None).exclude(backend__in=old).update(
        backlog_since=None
    )
    names = dict(Backend.objects.using(alias()).filter(pk__in=old).values_list("pk", "name"))
    for pk, name in names.items():
        BackendState.objects.get_or_create(backend_id=pk)
        # a compare-and-set: of several processes one tells
        if BackendState.objects.filter(backend=pk, backlog_since=None).update(
            backlog_since=old[pk]
        ):
            logger.warning("backlog_old backend=%s", pk)
            told = {"backend_name": name, "since": old[pk]}
            signals.tell(signals.backlog_old, sender=BackendState, **told)
