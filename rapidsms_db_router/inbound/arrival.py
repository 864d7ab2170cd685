"""From a stored inbound message to the worker that runs the apps on it."""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.errors import RouterNotBuilt
from rapidsms_db_router.inbound.processing import process_inbound
from rapidsms_db_router.models import Message
from rapidsms_db_router.outbound.outbox import Outbox
from rapidsms_db_router.publishing import doorbells

logger = logging.getLogger(__name__)


def arrive(router: Any, message: Message) -> None:
    """Have the apps run on a stored inbound message, unless it was processed before.

    After the surrounding transaction, in a worker; for an eager backend in this process.

    :param router: which runs the apps if this process does.
    """
    if message.status != Status.QUEUED:
        return
    if doorbells.is_eager():
        doorbells.publish_inbound(message)
    else:
        transaction.on_commit(lambda: _publish(router, message), using=alias())


def _publish(router: Any, message: Message) -> None:
    """Have a worker told; the message is stored, so that its caller must not see this fail."""
    try:
        if not _process_here(router, message) and not doorbells.publish_inbound(message):
            unclaimed = Message.objects.filter(pk=message.pk, claim_token=None)
            unclaimed.filter(status=Status.QUEUED).update(recover_at=now())
    except Exception as exc:
        logger.error("publishing_failed message=%s error=%s", message.pk, type(exc).__name__)
        logger.debug("publishing_failed message=%s", message.pk, exc_info=True)


def _process_here(router: Any, message: Message) -> bool:
    """Run the apps in this process, if the backend is eager; return whether that was done."""
    if not (conf.has_eager_backend() and conf.is_eager(_backend_name(message))):
        return False
    try:
        process_inbound(router, message.pk, Outbox(lambda: router))
    except RouterNotBuilt:
        return False  # a worker may be able to
    return True


def _backend_name(message: Message) -> str | None:
    rows = message.transmissions.order_by("pk")
    return rows.values_list("connection__backend__name", flat=True).first()
