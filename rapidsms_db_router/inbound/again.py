"""Running the apps on errored inbound messages again, on request."""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import QuerySet

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.lease import lease

logger = logging.getLogger(__name__)


def reprocess(messages: QuerySet[Message]) -> list[int]:
    """Move errored inbound messages from E to Q, with all their starts before them again.

    :param messages: those asked for; only those that are inbound and E are moved.
    :returns: the ids of those moved, which the caller publishes.
    """
    errored = messages.filter(status=Status.ERRORED, direction=Direction.INCOMING)
    moved = []
    for message_id in list(errored.values_list("pk", flat=True)):
        with transaction.atomic(using=alias()):
            still = Message.objects.filter(pk=message_id, status=Status.ERRORED)
            if still.update(
                status=Status.QUEUED,
                error="",
                claim_token=None,
                recover_at=lease(),
                publishes=0,
                attempts=0,
                updated=now(),
            ):
                Transmission.objects.filter(message=message_id).update(
                    status=Status.QUEUED, updated=now()
                )
                moved.append(message_id)
    logger.info("messages_reprocessed messages=%s", len(moved))
    return moved
