"""Kannel's delivery reports, as ``rapidsms.backends.kannel`` saves them."""

from __future__ import annotations

import logging
from typing import Any

from rapidsms_db_router.choices import Outcome, Status
from rapidsms_db_router.db.connection import contained
from rapidsms_db_router.reports.matching import find
from rapidsms_db_router.reports.recording import record
from rapidsms_db_router.reports.report import read

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
            said = {"message_id": instance.message_id, "identity": instance.identity}
            if instance.status_text == NO_ROUTE and not _was_accepted(**said):
                return
            record(outcome, **said, reason=instance.status_text)
    except Exception as exc:
        logger.error("report_failed report=%s error=%s", instance.pk, type(exc).__name__)
        logger.debug("report_failed report=%s", instance.pk, exc_info=True)


def _was_accepted(message_id: Any, identity: Any) -> bool:
    """Return whether the message had been accepted, so that no answer tells of the failure."""
    found = find(read(Outcome.REJECTED, message_id=message_id, identity=identity))
    return found is not None and found.row.status == Status.SENT
