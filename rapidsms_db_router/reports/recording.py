"""Recording delivery reports.

They come in any order, more than once, late, or before it is even written that the message was
sent; each moves a transmission from a status it names to one that says more, or moves nothing.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from rapidsms.models import Backend, Connection

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Direction, Outcome, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import EarlyReport, Transmission, status
from rapidsms_db_router.models.transmission import LONGEST_EXTERNAL_ID

logger = logging.getLogger(__name__)

#: Outcomes after which the phone will not get the message.
BAD = (Outcome.FAILED, Outcome.REJECTED)
#: Outcomes that say no more than that the gateway has it.
HOPEFUL = (Outcome.ACCEPTED, Outcome.BUFFERED)
#: How long a report waits for the id it speaks of.
KEPT = datetime.timedelta(days=1)
#: No primary key is larger.
LARGEST_KEY = 2**63 - 1
#: More of a gateway's words helps nobody.
LONGEST_REASON = 1000
LONGEST_BACKEND_NAME = 255


def record(
    outcome: str,
    *,
    message_id: Any = None,
    identity: str | None = None,
    external_id: str | None = None,
    backend_name: str | None = None,
    date: datetime.datetime | None = None,
    reason: str = "",
) -> bool:
    """Take what a gateway says about one recipient of a message, and move the transmission.

    It is named by the message's id and the recipient's identity, or by the gateway's own id, which
    the backend returned from ``send()``. What is not known is logged, and never an error; a report
    of an id that the backend has yet to return is kept for it.

    :param outcome: one of :class:`~rapidsms_db_router.choices.Outcome`. ``"delivered"`` makes the
        transmission D, whatever it was; ``"failed"`` and ``"rejected"`` E, unless it is D;
        ``"accepted"`` and ``"buffered"`` S, where nobody knew how the sending had ended.
    :param message_id: the ``id_`` that the backend was given.
    :param identity: whom the message was for; needs not be said if it was for one alone.
    :param external_id: the gateway's own id.
    :param backend_name: the backend's name, where identities or ids of several may be alike.
    :param date: when it was delivered; now, if it is not said. A naive one is in the current time
        zone.
    :param reason: why it was not, in the gateway's words.
    :returns: whether anything moved.
    :raises ValueError: for an outcome that is none.
    """
    found = Outcome(outcome)
    rows = _find(message_id, identity, external_id, backend_name)
    moment, said = _aware(date) or now(), _clean(reason)
    if rows:
        return _move(rows, found, moment, said)
    if not external_id:
        logger.warning("report_unknown outcome=%s", found.value)
        return False
    EarlyReport.objects.filter(received__lt=now() - KEPT).delete()
    EarlyReport.objects.create(
        external_id=_clean(external_id)[:LONGEST_EXTERNAL_ID],
        backend_name=(backend_name or "")[:LONGEST_BACKEND_NAME],
        outcome=found,
        date=_aware(date),
        reason=said,
    )
    logger.info("report_kept outcome=%s", found.value)
    # the backend may have returned the id between our look and this
    return _move(_find(None, None, external_id, backend_name), found, moment, said)


def _find(
    message_id: Any, identity: str | None, external_id: str | None, backend_name: str | None
) -> list[Transmission]:
    """Return the transmission that is meant, if one is."""
    rows = _rows().filter(message__direction=Direction.OUTGOING)
    backends = Backend.objects.using(alias())
    if backend_name:
        backends = backends.filter(name=backend_name)
        rows = rows.filter(connection__backend__name=backend_name)
    if message_id is not None:
        key = str(message_id).strip()
        if key.isascii() and key.isdigit() and int(key) <= LARGEST_KEY:
            of_message = rows.filter(message=int(key))
            if identity:
                # whom it is about first, by an index that begins with the backend: a broadcast has
                # too many transmissions to look among them
                keys = list(backends.values_list("pk", flat=True))
                people = Connection.objects.using(alias()).filter(backend__in=keys)
                found = list(people.filter(identity=identity).values_list("pk", flat=True))
                return list(of_message.filter(connection__in=found)) if found else []
            if not external_id:
                two = list(of_message[:2])  # of which nobody can tell
                return two if len(two) == 1 else []
    if external_id:
        return list(rows.filter(external_id=_clean(external_id)[:LONGEST_EXTERNAL_ID]))
    return []


def _rows() -> QuerySet[Transmission]:
    return Transmission.objects.select_related("message", "connection__backend")


def _move(
    rows: Iterable[Transmission], outcome: Outcome, moment: datetime.datetime, reason: str
) -> bool:
    moves = [partial(_move_one, row, outcome, moment, reason) for row in rows]
    return any(list(map(insist, moves)))  # all of them


def _move_one(row: Transmission, outcome: Outcome, moment: datetime.datetime, reason: str) -> bool:
    mine, dbm = Transmission.objects.filter(pk=row.pk), row.message
    if row.status == Status.DELIVERED or (row.status == Status.SENT and outcome in HOPEFUL):
        return False  # as most reports of most gateways: nothing that was not known
    error = f"{outcome.value}: {reason}" if reason else outcome.value
    with transaction.atomic(using=alias()):
        if outcome == Outcome.DELIVERED:
            if moved := mine.deliver(moment):
                status.follow_delivered(dbm, [row.pk])
        else:
            moved = mine.fail(error) if outcome in BAD else mine.accept()
            if moved:
                status.follow_moved(dbm)
    logger.info("report message=%s outcome=%s moved=%s", dbm.pk, outcome.value, moved)
    if not moved:
        return False
    told: dict[str, Any] = {
        "sender": Transmission,
        "message": dbm,
        "backend_name": row.connection.backend.name,
        "transmission_ids": [row.pk],
    }
    if outcome == Outcome.DELIVERED:
        _after_commit(lambda: signals.tell(signals.transmissions_delivered, **told))
    elif outcome in BAD:
        told |= {"error": error, "next_try": None}
        _after_commit(lambda: signals.tell(signals.transmissions_errored, **told))
    else:
        _after_commit(lambda: signals.tell(signals.transmissions_sent, **told))
    return True


def _after_commit(tell: Any) -> None:
    transaction.on_commit(tell, using=alias())


def follow_early(external_ids: Mapping[int, str], backend_name: str) -> None:
    """Follow the reports that came before the ids they speak of were known.

    :param external_ids: what a backend has just returned, by primary key; stored and committed.
    """
    if not external_ids:
        return
    early = EarlyReport.objects.filter(external_id__in=set(external_ids.values()))
    early = early.filter(backend_name__in=("", backend_name))
    for report in early.order_by("pk"):
        named = [pk for pk, said in external_ids.items() if said == report.external_id]
        rows = _rows().filter(pk__in=named)
        _move(rows, Outcome(report.outcome), report.date or report.received, report.reason)
        report.delete()


def _aware(date: datetime.datetime | None) -> datetime.datetime | None:
    if date is None or timezone.is_aware(date) == settings.USE_TZ:
        return date
    return timezone.make_aware(date) if settings.USE_TZ else timezone.make_naive(date)


def _clean(said: Any) -> str:
    return narrow_text(clean_text(said))[:LONGEST_REASON]


def _heard(outcome: str, **report: Any) -> None:
    """Follow the signal."""
    report.pop("signal", None)
    report.pop("sender", None)
    record(outcome, **report)


signals.delivery_report.connect(_heard)
