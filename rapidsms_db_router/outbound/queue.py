"""The queue of batches in the database, as a sender uses it."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterable

from django.db import transaction
from rapidsms.models import Backend

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.outbound.held import HeldBatch


def hold(batches: list[Batch], known: Iterable[Message]) -> list[HeldBatch]:
    """Read what a sender needs of batches that it has just claimed.

    :param known: messages that are in memory already.
    """
    messages = {message.pk: message for message in known}
    missing = {batch.message_id for batch in batches} - messages.keys()
    if missing:
        read = Message.objects.select_related("in_response_to").filter(pk__in=missing)
        messages |= {message.pk: message for message in read}
    if errored := [batch for batch in batches if batch.errored]:
        # their date has come: from here on they are like any other
        engine().requeue_errored([pk for batch in errored for pk in batch.transmission_ids])
        Batch.objects.filter(pk__in=[batch.pk for batch in errored]).update(errored=False)
    ids = [pk for batch in batches for pk in batch.transmission_ids]
    # of those whose connection was moved to another backend recovery cuts another batch
    found = engine().recipients(ids, batches[0].backend_id) if ids else []
    recipients = {row.id: row for row in found}
    held = []
    for batch in batches:
        batch.message = messages[batch.message_id]
        rows = [recipients[pk] for pk in batch.transmission_ids if pk in recipients]
        held.append(HeldBatch(batch, rows))
    return held


def end(batches: Collection[HeldBatch], *, at_once: bool) -> list[float]:
    """End batches that a sender holds: nothing of them is left, or it is for a later claim.

    :param at_once: whether what is tried again is due now.
    :returns: in how many seconds each of the rest may be claimed again.
    """
    over = [batch.id for batch in batches if not batch.left]
    if over:
        engine().delete_batches(over)
    moment, back_in = now(), []
    for batch in batches:
        ids = batch.left
        if not ids:
            continue
        # a batch that was not called to its end, or has nothing to wait for, is ready now
        idle = at_once or batch.waiting
        seconds = 0.0 if idle else batch.retry_in
        if not batch.paused:
            back_in.append(seconds)
        Batch.objects.filter(pk=batch.id, claim_token=batch.token).update(
            transmission_ids=ids,
            claim_token=None,
            recover_at=None,
            ready_at=moment + datetime.timedelta(seconds=seconds),
            whole=False,
            errored=bool(batch.retried),
        )
    return back_in


def release_doubtful(tokens: Collection[uuid.UUID], held: Iterable[HeldBatch]) -> None:
    """Undo what a step whose commit failed has done if its commit had succeeded after all.

    :param tokens: under which such steps wanted to claim batches.
    :param held: what the sender knows that it holds. Recipients that it has not called are Q.
    """
    claimed = Batch.objects.filter(claim_token__in=tokens)
    claimed.update(recover_at=None, ready_at=now())
    # none of their recipients was called
    waiting = [pk for batch in claimed for pk in batch.transmission_ids]
    claimed.update(claim_token=None)
    waiting += [row.id for batch in held for row in batch.pending]
    waiting += [row.id for batch in held for rows in batch.divided for row in rows]
    if waiting:
        engine().requeue(waiting)


def isolate(message_id: int, backend: Backend, ids: Collection[int]) -> list[int]:
    """Return the batches that hold just these transmissions; cut them out, or make one.

    For callers that name transmissions themselves.

    :param ids: primary keys. What is claimed, sent or errored among them is in no such batch.
    :returns: primary keys of unclaimed batches.
    """
    named, isolated = set(ids), []
    with transaction.atomic(using=alias()):
        # locked: of two callers that name the same, one finds what the other has made
        outbound = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING)
        if not outbound.update(updated=now()):
            return []
        batches = Batch.objects.filter(message=message_id, backend=backend)
        for batch in batches.order_by("position", "pk").iterator(100):
            wanted = [pk for pk in batch.transmission_ids if pk in named]
            named -= set(wanted)
            if not wanted or batch.claim_token is not None:
                continue
            if rest := [pk for pk in batch.transmission_ids if pk not in ids]:
                unclaimed = Batch.objects.filter(pk=batch.pk, claim_token=None)
                if not unclaimed.update(transmission_ids=rest, whole=False):
                    continue
                batch = _insert(batch, wanted)
            isolated.append(batch.pk)
            if not named:
                break
        rows = Transmission.objects.filter(message=message_id, pk__in=named)
        rows = rows.filter(status=Status.QUEUED, connection__backend=backend)
        if left := list(rows.order_by("pk").values_list("pk", flat=True)):
            loose = Batch(message_id=message_id, backend=backend)
            message = outbound.get()
            loose.due_at = max(loose.due_at, message.not_before or loose.due_at)
            loose.ready_at = loose.due_at
            loose.paused = message.paused_at is not None
            isolated.append(_insert(loose, left).pk)
    return isolated


def adopt(message_id: int, backend: Backend, ids: Collection[int]) -> None:
    """Make a batch of transmissions that have none; they were stored by the project itself."""
    if not Batch.objects.filter(message=message_id, backend=backend).exists():
        isolate(message_id, backend, ids)


def _insert(like: Batch, ids: list[int]) -> Batch:
    """Insert an unclaimed batch of these transmissions, no sooner ready than another batch."""
    return Batch.objects.create(
        message_id=like.message_id,
        backend_id=like.backend_id,
        transmission_ids=ids,
        position=like.position,
        due_at=like.due_at,
        ready_at=like.ready_at,
        errored=like.errored,
        paused=like.paused,
    )
