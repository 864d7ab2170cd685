"""Giving up what is still to be sent of a message: it has expired, or an operator cancels it."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Batch, Message, Transmission, status

logger = logging.getLogger(__name__)

#: The errors of what was not sent, though nothing went wrong.
EXPIRED, CANCELLED = "expired", "cancelled"


def discard(message: Message, reason: str) -> int:
    """Give up what is still to be sent of an outbound message: it becomes E.

    Calls in flight go on; the sender leaves out what it has claimed and not called yet.

    :param reason: why, for the admin.
    :returns: how many transmissions were given up.
    """
    with transaction.atomic(using=alias()):
        # also a lock, before those of batches and transmissions, as in all that takes several
        Message.objects.filter(pk=message.pk).update(updated=now())
        Batch.objects.filter(message=message.pk, claim_token=None).delete()
        count = Transmission.objects.filter(message=message.pk).discard(reason)
        status.settle(message)
    logger.info("message_discarded message=%s rows=%s reason=%s", message.pk, count, reason)
    return count


def cancel(messages: QuerySet[Message]) -> int:
    """Give up what is still to be sent of outbound messages.

    :param messages: those asked for; inbound ones among them are not changed.
    :returns: how many transmissions became E with the reason "cancelled".
    """
    outbound = messages.filter(direction=Direction.OUTGOING)
    return sum(insist(partial(discard, message, CANCELLED)) for message in list(outbound))
