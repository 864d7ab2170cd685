"""Pausing one message: nothing more of it is sent until it goes on, or expires."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction

from rapidsms_db_router.acting import acted
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.outbound import outbox

logger = logging.getLogger(__name__)

#: Batches that one statement names.
CHUNK = 500


def pause(message_id: int, *, by: str = "") -> bool:
    """Have nothing more sent of an outbound message; calls in flight end.

    No call begins after that: a sender looks at its batches in the transaction before each call.

    :param by: the operator's name.
    :returns: whether it was not paused before.
    """
    paused = insist(partial(_mark, message_id, by, paused=True))
    if paused:
        logger.info("message_paused message=%s", message_id)
    return paused


def go_on(message_id: int, *, by: str = "") -> bool:
    """Have a paused message sent again; return whether it was paused.

    :param by: the operator's name.
    """
    resumed = insist(partial(_mark, message_id, by, paused=False))
    if resumed:
        logger.info("message_resumed message=%s", message_id)
        outbox.send([message_id])
    return resumed


def _mark(message_id: int, by: str, *, paused: bool) -> bool:
    with transaction.atomic(using=alias()):
        # also a lock: what is cut into batches meanwhile waits, and then sees the mark
        message = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING)
        other = message.filter(paused_at__isnull=paused)
        if not other.update(paused_at=now() if paused else None):
            return False
        batches = Batch.objects.filter(message=message_id)
        ids = list(batches.order_by("pk").values_list("pk", flat=True))
        for start in range(0, len(ids), CHUNK):
            # locked in the order in which senders lock theirs, and by key alone, as in make_ready()
            some = Batch.objects.filter(pk__in=ids[start : start + CHUNK])
            locked = list(some.order_by("pk").select_for_update().values_list("pk", flat=True))
            Batch.objects.filter(pk__in=locked).update(paused=paused)
        kind, marks = ("pause_message" if paused else "go_on_message"), {"paused": paused}
        acted(kind, by, message.get(), before={"paused": not paused}, after=marks)
    return True
