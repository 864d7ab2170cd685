"""Giving up what is still to be sent of a message: it has expired, or an operator cancels it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, Transmission, status
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import BACKEND, OPEN, PENDING

logger = logging.getLogger(__name__)

#: The errors of what was not sent, though nothing went wrong.
EXPIRED, CANCELLED = "expired", "cancelled"
#: The error of what waited for a connection that was deleted.
CONNECTION_DELETED = "connection deleted"
#: Messages that are discarded in one transaction.
CHUNK = 500


def discard(message: Message, reason: str) -> int:
    """Give up what is still to be sent of an outbound message: it becomes E.

    Calls in flight go on; the sender leaves out what it has claimed and not called yet.

    :param reason: why, for the admin.
    :returns: how many transmissions were given up.
    """
    count = _discard([message], reason)
    logger.info("message_discarded message=%s rows=%s reason=%s", message.pk, count, reason)
    return count


def cancel(messages: QuerySet[Message]) -> int:
    """Give up what is still to be sent of outbound messages.

    :param messages: those asked for; inbound ones among them are not changed.
    :returns: how many transmissions became E with the reason "cancelled".
    """
    outbound = messages.filter(direction=Direction.OUTGOING).order_by("pk")
    ids, count = list(outbound.values_list("pk", flat=True)), 0
    for start in range(0, len(ids), CHUNK):
        some = list(Message.objects.filter(among(ids[start : start + CHUNK])))
        count += insist(partial(_discard, some, CANCELLED)) if some else 0
    logger.info("messages_cancelled messages=%s rows=%s", len(ids), count)
    return count


def _discard(messages: Sequence[Message], reason: str) -> int:
    by_key = {message.pk: message for message in messages}
    of_messages = among(by_key, "message")
    with transaction.atomic(using=alias()):
        # also a lock, before those of batches and transmissions, as in all that takes several
        moment = now()
        Message.objects.filter(among(by_key)).update(updated=moment)
        Batch.objects.filter(of_messages, claim_token=None).delete()
        # what a sender has comes to its end by itself, also of a paused message
        Batch.objects.filter(of_messages, paused=True).update(paused=False)
        rows = Transmission.objects.filter(of_messages)
        count = rows.discard(reason, moment)
        status.settle_locked(messages, moment)
        if count:
            announce(rows.filter(status=Status.ERRORED, error=reason, updated=moment), by_key)
    return count


def discard_batches(ids: Collection[int], reason: str) -> int:
    """Give up what is still to be sent of some batches.

    As :func:`discard`, for a part of a message. What of a message is left is not counted each time.

    :param ids: primary keys, at least one.
    :param reason: the error of what is given up.
    :returns: how many transmissions were given up.
    """
    with transaction.atomic(using=alias()):
        moment = now()
        named = Batch.objects.filter(among(ids))
        messages = set(named.values_list("message", flat=True))
        if not messages:
            return 0
        of_messages = Message.objects.filter(among(messages))
        of_messages.update(updated=moment)
        locked = list(named.order_by("pk").select_for_update())
        if unclaimed := [batch.pk for batch in locked if batch.claim_token is None]:
            engine().delete_batches(unclaimed)
        # as in _discard()
        Batch.objects.filter(pk__in=[batch.pk for batch in locked]).update(paused=False)
        pending = {pk for batch in locked for pk in batch.transmission_ids}
        return _give_up(pending, of_messages, reason, moment) if pending else 0


def discard_of(connections: Collection[int], reason: str) -> int:
    """Give up what is still to be sent to some connections; other recipients are sent to.

    :param connections: primary keys.
    :param reason: the error of what is given up.
    :returns: how many transmissions were given up.
    """
    waiting = Transmission.objects.filter(PENDING, connection__in=connections)
    found = waiting.filter(message__direction=Direction.OUTGOING)
    pairs = list(found.values_list("pk", "message"))
    return sum(
        insist(partial(_discard_rows, pairs[start : start + CHUNK], reason))
        for start in range(0, len(pairs), CHUNK)
    )


def _discard_rows(pairs: Sequence[tuple[int, int]], reason: str) -> int:
    ids, messages = {pk for pk, _ in pairs}, {message for _, message in pairs}
    with transaction.atomic(using=alias()):
        moment = now()
        of_messages = Message.objects.filter(among(messages))
        of_messages.update(updated=moment)
        # small ones, of which nothing else is left
        locked = Batch.objects.filter(among(messages, "message"), claim_token=None, position__lte=0)
        over = [
            batch.pk
            for batch in locked.order_by("pk").select_for_update()
            if ids.issuperset(batch.transmission_ids)
        ]
        if over:
            engine().delete_batches(over)
        return _give_up(ids, of_messages, reason, moment)


def _give_up(
    ids: Collection[int], of_messages: QuerySet[Message], reason: str, moment: datetime
) -> int:
    """Give up transmissions, at least one, of messages that the caller has locked.

    A message without a batch has ended, and is settled.
    """
    rows = Transmission.objects.filter(among(ids))
    count = rows.discard(reason, moment)
    by_key = {message.pk: message for message in of_messages}
    batches = Batch.objects.filter(message=OuterRef("pk"))
    left = set(of_messages.filter(Exists(batches)).values_list("pk", flat=True))
    if count and left:
        status.mark_errored(Message.objects.filter(among(left)), given_up=True)
    if over := [message for pk, message in by_key.items() if pk not in left]:
        status.settle_locked(over, moment)
    if count:
        announce(rows.filter(status=Status.ERRORED, error=reason, updated=moment), by_key)
    return count


def discard_unconnected(message: Message) -> int:
    """Give up what can never be sent of a message without a batch: its connection was deleted.

    :returns: how many transmissions were given up.
    """
    gone = message.transmissions.filter(OPEN, connection__backend__isnull=True)
    ids = list(gone.values_list("pk", flat=True))
    if not ids:
        return 0
    rows: QuerySet[Transmission] = Transmission.objects.filter(OPEN, among(ids))
    return rows.update(
        status=Status.ERRORED, error=CONNECTION_DELETED, next_try=None, updated=now()
    )


def announce(rows: QuerySet[Transmission], messages: Mapping[int, Message]) -> None:
    """Tell the project's own code, after the commit, what was given up without a call.

    :param rows: transmissions with the same error.
    :param messages: their messages, by primary key.
    """
    if not signals.transmissions_errored.has_listeners(Transmission):
        return
    found = list(
        rows.order_by("message", BACKEND, "pk").values_list("message", BACKEND, "error", "pk")
    )
    for (message_id, backend_name, error), group in groupby(found, key=lambda row: row[:3]):
        tell = partial(
            signals.tell,
            signals.transmissions_errored,
            sender=Transmission,
            message=messages[message_id],
            backend_name=backend_name,
            transmission_ids=[pk for *_, pk in group],
            error=error,
            next_try=None,
        )
        transaction.on_commit(tell, using=alias())
