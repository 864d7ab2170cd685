"""Sending errored transmissions again, on request."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from rapidsms.models import Backend, Connection

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Batch, Message, Transmission, status
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.storage import batches
from rapidsms_db_router.storage.batches import Row

logger = logging.getLogger(__name__)

#: Transmissions that are moved in one transaction.
CHUNK = 500


def resend(transmissions: QuerySet[Transmission], place: int = 0) -> tuple[int, list[int]]:
    """Move errored outbound transmissions from E to Q, with all their tries before them again.

    :param transmissions: those asked for; only those that are E are moved, and whose message has
        its text still.
    :param place: how many were asked for before them, which are to be sent first.
    :returns: how many were moved, and the ids of their messages, whose doorbells the caller rings.
    """
    rows = _rows(transmissions)
    count, messages = 0, set()
    for start in range(0, len(rows), CHUNK):
        moved = insist(partial(_resend, rows[start : start + CHUNK], place + start))
        count += len(moved)
        messages |= {row.message_id for row in moved}
    logger.info("transmissions_resent rows=%s messages=%s", count, len(messages))
    return count, sorted(messages)


def _rows(transmissions: QuerySet[Transmission]) -> list[Row]:
    """Return the errored outbound ones among transmissions, in order."""
    # not joined: the plan of a join may read most messages, or connections, for one chunk
    complete = Message.objects.filter(pk=OuterRef("message"), blanked_at=None)
    backend = Connection.objects.filter(pk=OuterRef("connection")).values("backend")
    errored = transmissions.filter(status=Status.ERRORED).order_by("pk")
    columns = "pk", "message", Subquery(backend), Subquery(complete.values("direction"))
    found = list(errored.values_list(*columns))
    names = dict(Backend.objects.using(alias()).values_list("pk", "name"))
    return [
        Row(pk, message_id, backend_id, names[backend_id])
        for pk, message_id, backend_id, way in found
        if way == Direction.OUTGOING and backend_id in names
    ]


def _resend(rows: Sequence[Row], place: int) -> list[Row]:
    of_messages = among({row.message_id for row in rows})
    named = Transmission.objects.filter(among([row.id for row in rows]), status=Status.ERRORED)
    with transaction.atomic(using=alias()):
        # also a lock: of two requests at the same time one finds nothing to be moved
        Message.objects.filter(of_messages).update(recover_at=lease())
        waiting = dict(named.filter(next_try__isnull=False).values_list("pk", "message"))
        if waiting:
            _drop_retries(set(waiting.values()), waiting.keys())
        locked = named.order_by("pk").select_for_update().values_list("pk", flat=True)
        ids = set(locked)
        if not ids:
            transaction.set_rollback(True, using=alias())
            return []
        moved = [row for row in rows if row.id in ids]
        Transmission.objects.filter(among(ids)).update(
            status=Status.QUEUED, attempts=0, next_try=None, updated=now()
        )
        batches.cut_again(moved, place)
        _settle(moved)
    return moved


def _drop_retries(messages: Collection[int], ids: Collection[int]) -> None:
    """Take transmissions out of the batches that wait for a retry."""
    waiting = Batch.objects.filter(among(messages, "message"), claim_token=None, errored=True)
    empty, rest = [], []
    # locked, as everywhere, before transmissions are
    for batch in waiting.order_by("pk").select_for_update():
        left = [pk for pk in batch.transmission_ids if pk not in ids]
        if not left:
            empty.append(batch.pk)
        elif len(left) < len(batch.transmission_ids):
            batch.transmission_ids = left
            rest.append(batch)
    Batch.objects.filter(pk__in=empty).delete()
    Batch.objects.bulk_update(rest, ["transmission_ids"])


def _settle(moved: Sequence[Row]) -> None:
    messages = {row.message_id for row in moved}
    last = moved[-1]
    # A broadcast whose rest is moved later stays E meanwhile. To count a million rows takes long.
    if sum(row.message_id == last.message_id for row in moved) > CHUNK // 2:
        near = Transmission.objects.filter(pk__gt=last.id, pk__lte=last.id + status.NEAR)
        if near.filter(message=last.message_id, status=Status.ERRORED).exists():
            messages.remove(last.message_id)
    if messages:
        columns = Message.objects.only("direction", "status")
        status.settle_locked(list(columns.filter(among(messages))), now())
