"""Sending what waits at another date than was planned."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Value
from django.db.models.functions import Least

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import RETRYING

logger = logging.getLogger(__name__)


def move(ids: Collection[int], date: datetime.datetime) -> tuple[int, list[int]]:
    """Have some batches be claimable from a date on; those that a sender has are left alone.

    :param ids: primary keys of batches, at least one.
    :param date: the date, also one that has passed.
    :returns: how many transmissions that are, and their messages: primary keys.
    """
    with transaction.atomic(using=alias()):
        named = Batch.objects.filter(among(ids), claim_token=None)
        messages = sorted(set(named.values_list("message", flat=True)))
        if not messages:
            return 0, []
        # locked first, as in all that takes several
        list(Message.objects.filter(among(messages)).order_by("pk").select_for_update())
        waiting = list(named.order_by("pk").select_for_update())
        if not waiting:
            return 0, []
        # what is sent at once is not due any later for it
        due_at = date if date > now() else Least("due_at", Value(date))
        # by key alone: MariaDB would lock the other indexes first, a sender last
        named = Batch.objects.filter(pk__in=[batch.pk for batch in waiting])
        named.update(due_at=due_at, ready_at=date)
        if retried := [pk for batch in waiting if batch.errored for pk in batch.transmission_ids]:
            Transmission.objects.filter(RETRYING, among(retried)).update(next_try=date)
        if planned := {batch.message_id for batch in waiting if not batch.errored}:
            _plan(planned, date)
    count = sum(len(batch.transmission_ids) for batch in waiting)
    logger.info("batches_moved batches=%s rows=%s", len(waiting), count)
    return count, messages


def _plan(messages: Collection[int], date: datetime.datetime) -> None:
    """Have messages remember the date, so that a gateway that works again is not sent them before.

    Of a message whose batches have several dates the last one counts.
    """
    rows = Message.objects.filter(among(messages))
    of_message = Batch.objects.filter(message=OuterRef("pk"), claim_token=None, errored=False)
    later = Exists(of_message.filter(ready_at__gt=date))
    rows.filter(~later, not_before__gt=date).update(not_before=date)
    if date > now():
        rows.filter(Q(not_before=None) | Q(not_before__lt=date)).update(not_before=date)
