"""Running the apps on errored inbound messages again, on request."""

from __future__ import annotations

import logging
from functools import partial

from django.db import transaction
from django.db.models import QuerySet

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.lease import lease

logger = logging.getLogger(__name__)

#: Messages that are moved in one transaction.
CHUNK = 500


def reprocess(messages: QuerySet[Message]) -> list[int]:
    """Move errored inbound messages from E to Q, with all their starts before them again.

    :param messages: those asked for; only those that are inbound and E are moved, and have their
        text still.
    :returns: the ids of those moved, which the caller publishes.
    """
    errored = messages.filter(status=Status.ERRORED, direction=Direction.INCOMING, blanked_at=None)
    ids = list(errored.order_by("pk").values_list("pk", flat=True))
    moved: list[int] = []
    for start in range(0, len(ids), CHUNK):
        moved += insist(partial(_reprocess, ids[start : start + CHUNK]))
    logger.info("messages_reprocessed messages=%s", len(moved))
    return moved


def _reprocess(ids: list[int]) -> list[int]:
    with transaction.atomic(using=alias()):
        named = Message.objects.filter(among(ids), status=Status.ERRORED, blanked_at=None)
        # A lock, by a write: SELECT FOR UPDATE does not exist on SQLite. Of two requests at the
        # same time one finds nothing to be moved.
        named.update(updated=now())
        moved = list(named.order_by("pk").values_list("pk", flat=True))
        if moved:
            Message.objects.filter(among(moved)).update(
                status=Status.QUEUED,
                error="",
                claim_token=None,
                recover_at=lease(),
                publishes=0,
                attempts=0,
            )
            rows = Transmission.objects.filter(among(moved, "message"))
            rows.update(status=Status.QUEUED, updated=now())
    return moved
