"""Moving transmissions to where delivery reports say that they are."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from django.db import models, transaction

from rapidsms_db_router import conf, signals
from rapidsms_db_router.choices import Outcome, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.engine.portable import by_key
from rapidsms_db_router.limits import segments
from rapidsms_db_router.masking import mask
from rapidsms_db_router.models import Message, Part, Transmission, status
from rapidsms_db_router.models.transmission import REPORTABLE
from rapidsms_db_router.reports.matching import Found
from rapidsms_db_router.reports.report import Report, plausible

logger = logging.getLogger(__name__)

#: Outcomes after which the phone will not get the message.
BAD = (Outcome.FAILED, Outcome.REJECTED)
#: Outcomes that say no more than that the gateway has it.
HOPEFUL = (Outcome.ACCEPTED, Outcome.BUFFERED)


class Move(NamedTuple):
    """Where one report moves one transmission."""

    status: Status
    moment: datetime.datetime
    error: str


def move(found: Found, report: Report) -> bool:
    """Move the transmission that a report is about; return whether anything moved."""
    row, of_part = found.row, is_of_part(found, report)
    if not is_news(row, report, of_part=of_part):
        return False
    target = target_of(row, report)
    if of_part:
        moved = insist(partial(_move_part, found, report.outcome, target))
    else:
        moved = bool(move_all(row.message, {row.pk: target}, row.connection.backend.name))
    logger.info(
        "report message=%s outcome=%s moved=%s", row.message_id, report.outcome.value, moved
    )
    return moved


def is_news(row: Transmission, report: Report, *, of_part: bool = False) -> bool:
    """Return whether a report may move the transmission that it is about, as that was read.

    :param of_part: whether the report is about a part of it.
    """
    if not row.attempts and row.status in (Status.QUEUED, Status.ERRORED):
        logger.warning("report_unsent message=%s outcome=%s", row.message_id, report.outcome.value)
        return False
    if of_part:
        return True
    # most reports of most gateways tell nothing that was not known
    is_known = row.status == Status.SENT and report.outcome in HOPEFUL
    return row.status != Status.DELIVERED and not is_known


def is_of_part(found: Found, report: Report) -> bool:
    """Return whether a report may be about one part of several."""
    return bool(found.part) or (_has_parts(found.row) and report.outcome not in HOPEFUL)


def target_of(row: Transmission, report: Report) -> Move:
    """Return where a report moves a transmission, if that is one of those that it may move."""
    outcome = report.outcome
    moment = plausible(report.date, row.date) or now()
    if outcome in BAD:
        error = outcome.value
        if report.reason:
            # a receipt as SMPP has it ends with the text
            texts, people = [row.message.text], [row.connection.identity]
            error += f": {mask(report.reason, texts=texts, identities=people)}"
        return Move(Status.ERRORED, moment, error)
    return Move(Status.DELIVERED if outcome == Outcome.DELIVERED else Status.SENT, moment, "")


def _has_parts(row: Transmission) -> bool:
    """Return whether a gateway may report several times of a transmission, once for each part."""
    coding = conf.coding(row.connection.backend.name)
    return segments.count(row.message.text, coding) > 1


def move_all(message: Message, moves: Mapping[int, Move], backend_name: str) -> list[int]:
    """Move transmissions of a message, all to one status, in a few statements.

    :param moves: by primary key.
    :returns: which moved.
    """
    return insist(partial(_move_all, message, moves, backend_name))


def _move_all(message: Message, moves: Mapping[int, Move], backend_name: str) -> list[int]:
    ids = list(moves)
    with transaction.atomic(using=alias()):
        if len(ids) > 1:
            # a write first, for SQLite; and messages before transmissions, for MariaDB
            Message.objects.filter(pk=message.pk).update(updated=now())
            leaving = REPORTABLE[moves[ids[0]].status]
            rows = Transmission.objects.filter(leaving, pk__in=ids).order_by("pk")
            ids = list(rows.select_for_update().values_list("pk", flat=True))
        if not ids or not _write(ids, moves):
            return []
        _follow(message, ids, moves[ids[0]], backend_name)
    return ids


def _write(ids: list[int], moves: Mapping[int, Move], *, part: bool = False) -> int:
    rows, target = Transmission.objects.filter(pk__in=ids), moves[ids[0]].status
    if target == Status.DELIVERED:
        dates = {pk: moves[pk].moment for pk in ids}
        return rows.deliver(by_key(dates, models.DateTimeField()))
    if target == Status.ERRORED:
        errors = {pk: moves[pk].error for pk in ids}
        return rows.fail(by_key(errors, models.TextField()), part=part)
    return rows.accept()


def _follow(message: Message, ids: list[int], target: Move, backend_name: str) -> None:
    """Bring the message's status up to date, and tell the project's own code after the commit."""
    if target.status == Status.DELIVERED:
        status.follow_delivered(message, ids)
    else:
        status.follow_moved(message)
    told: dict[str, Any] = {
        "sender": Transmission,
        "message": message,
        "backend_name": backend_name,
        "transmission_ids": ids,
    }
    signal = signals.transmissions_sent
    if target.status == Status.DELIVERED:
        signal = signals.transmissions_delivered
    elif target.status == Status.ERRORED:
        signal = signals.transmissions_errored
        told |= {"error": target.error, "next_try": None}
    after_commit(lambda: signals.tell(signal, **told))


def after_commit(job: Callable[[], object]) -> None:
    """Run a job once the surrounding transaction is committed; now, if there is none."""
    transaction.on_commit(job, using=alias())


def _move_part(found: Found, outcome: Outcome, target: Move) -> bool:
    """Note what became of a part, and move its transmission as all parts together say.

    D once each part that has an id is; E as soon as one failed. What failed without an id of its
    own stays failed: the reports of the other parts follow.
    """
    row = found.row
    with transaction.atomic(using=alias()):
        # locked: reports of other parts wait
        Message.objects.filter(pk=row.message_id).update(updated=now())
        parts = Part.objects.filter(transmission=row.pk)
        if found.part or outcome in BAD:
            _note(row, found.part, outcome)
        outcomes = set(parts.values_list("outcome", flat=True))
        if outcome not in BAD:
            errored = Transmission.objects.filter(pk=row.pk, status=Status.ERRORED)
            if outcomes & set(BAD) and errored.exists():
                return False
            if found.part and outcomes != {Outcome.DELIVERED}:
                target = target._replace(status=Status.SENT)
        if not _write([row.pk], {row.pk: target}, part=True):
            return False
        _follow(row.message, [row.pk], target, row.connection.backend.name)
    return True


def _note(row: Transmission, external_id: str, outcome: Outcome) -> None:
    """Write down the outcome of a part; D is final, and a failure gives way to D alone."""
    parts = Part.objects.filter(transmission=row.pk, external_id=external_id)
    if not parts.exists():
        Part.objects.create(transmission=row, external_id=external_id, outcome=outcome)
        return
    known = parts.exclude(outcome=Outcome.DELIVERED)
    if outcome != Outcome.DELIVERED:
        known = known.exclude(outcome__in=BAD)
    known.update(outcome=outcome)
