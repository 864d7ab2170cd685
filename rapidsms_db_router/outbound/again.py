"""Sending errored transmissions again, on request."""

from __future__ import annotations

import logging
from functools import partial
from itertools import chain, groupby
from operator import itemgetter

from django.db import transaction
from django.db.models import QuerySet

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Batch, Message, Transmission, status
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.storage import batches

logger = logging.getLogger(__name__)

#: Transmissions that one statement names.
CHUNK = 1000


def resend(transmissions: QuerySet[Transmission]) -> tuple[int, list[int]]:
    """Move errored outbound transmissions from E to Q, with all their tries before them again.

    :param transmissions: those asked for; only those that are E are moved.
    :returns: how many were moved, and the ids of their messages, whose doorbells the caller rings.
    """
    errored = transmissions.filter(status=Status.ERRORED, message__direction=Direction.OUTGOING)
    pairs = errored.order_by("message_id", "pk").values_list("message_id", "pk")
    count, messages = 0, []
    for message_id, rows in groupby(list(pairs), key=itemgetter(0)):
        ids = [pk for _, pk in rows]
        if moved := insist(partial(_resend, message_id, ids)):
            count += moved
            messages.append(message_id)
    logger.info("transmissions_resent rows=%s messages=%s", count, len(messages))
    return count, messages


def _resend(message_id: int, ids: list[int]) -> int:
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    rows = [Transmission.objects.filter(pk__in=chunk) for chunk in chunks]
    moved = 0
    with transaction.atomic(using=alias()):
        # also a lock: of two requests at the same time one finds nothing to be moved
        Message.objects.filter(pk=message_id).update(recover_at=lease())
        message = Message.objects.filter(pk=message_id).first()
        retried = _drop_retries(message_id, set(ids))
        for some in rows:
            moved += some.filter(status=Status.ERRORED).update(
                status=Status.QUEUED, attempts=0, next_try=None, updated=now()
            )
        if message is None or not moved:
            transaction.set_rollback(True, using=alias())
            return 0
        for batch_id, left in retried.items():
            batch = Batch.objects.filter(pk=batch_id)
            if left:
                batch.update(transmission_ids=left)
            else:
                batch.delete()
        queued = (
            some.filter(status=Status.QUEUED).groups(size_of=conf.claim_size) for some in rows
        )
        batches.cut_again(message, chain.from_iterable(queued))
        status.settle(message)
    return moved


def _drop_retries(message_id: int, ids: set[int]) -> dict[int, list[int]]:
    """Return, by batch that waits for a retry, what is left of it without these transmissions."""
    # locked, as everywhere, before transmissions are
    waiting = Batch.objects.filter(message=message_id, claim_token=None, errored=True)
    left = {}
    for batch in waiting.order_by("pk").select_for_update():
        if ids & set(batch.transmission_ids):
            left[batch.pk] = [pk for pk in batch.transmission_ids if pk not in ids]
    return left
