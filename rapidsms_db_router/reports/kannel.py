"""Kannel's delivery reports, as ``rapidsms.backends.kannel`` saves them."""

from __future__ import annotations

import logging
from typing import Any

from rapidsms_db_router.choices import Outcome, Status
from rapidsms_db_router.db.connection import contained
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.reports.recording import record

logger = logging.getLogger(__name__)

#: What the numbers of Kannel's reports mean (its user's guide, "Delivery Reports").
KANNEL_OUTCOMES = {
    1: Outcome.DELIVERED,
    2: Outcome.FAILED,
    4: Outcome.BUFFERED,
    8: Outcome.ACCEPTED,
    16: Outcome.REJECTED,
}
#: bearerbox reports this when it found no route. While a call is in flight its answer says so, too:
#: the line is at fault then, and the sender decides what follows.
NO_ROUTE = "NACK/no SMSC"


def follow_kannel_report(instance: Any, created: bool, **_: Any) -> None:
    """Follow a report that ``rapidsms.backends.kannel`` has saved; a receiver of ``post_save``.

    Whatever happens is logged, since it is the gateway that would get the error.
    """
    outcome = KANNEL_OUTCOMES.get(instance.status)
    if not created or outcome is None:
        return
    try:
        with contained():
            if instance.status_text == NO_ROUTE and not _was_accepted(instance):
                return
            record(
                outcome,
                message_id=instance.message_id,
                identity=instance.identity,
                reason=instance.status_text,
            )
    except Exception as exc:
        logger.error("report_failed report=%s error=%s", instance.pk, type(exc).__name__)
        logger.debug("report_failed report=%s", instance.pk, exc_info=True)


def _was_accepted(instance: Any) -> bool:
    """Return whether the message had been accepted, so that no answer tells of the failure."""
    rows = Transmission.objects.filter(connection__identity=instance.identity)
    key = str(instance.message_id)
    return key.isdigit() and rows.filter(message_id=key, status=Status.SENT).exists()
