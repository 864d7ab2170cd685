"""Recording delivery reports.

They come in any order, more than once, late, or before it is even written that the message was
sent; each moves a transmission from a status it names to one that says more, or moves nothing.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from django.db.models import Q
from rapidsms.models import Backend

from rapidsms_db_router import conf, signals
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.masking import mask
from rapidsms_db_router.models import EarlyReport, Transmission
from rapidsms_db_router.models.early_report import LONGEST_EARLY_REASON, ROUND
from rapidsms_db_router.reports import moving
from rapidsms_db_router.reports.matching import Found, choose, find, find_together, outbound
from rapidsms_db_router.reports.report import Report, plausible, read

logger = logging.getLogger(__name__)

#: Rows that one statement names.
CHUNK = 200
#: The clocks of two processes differ by less than this.
CLOCKS = datetime.timedelta(seconds=10)
#: Of several early reports about one transmission, the one that says the most.
WEIGHTS = {Outcome.DELIVERED: 2, Outcome.FAILED: 1, Outcome.REJECTED: 1}


def record(
    outcome: str,
    *,
    message_id: Any = None,
    identity: str | None = None,
    external_id: str | None = None,
    backend_name: str | None = None,
    date: datetime.datetime | str | None = None,
    reason: str = "",
) -> bool:
    """Take what a gateway says about one recipient of a message, and move the transmission.

    The transmission is named by the message's id and the recipient's identity, or by the gateway's
    own id, which the backend returned from ``send()``. An unknown transmission is logged, and is no
    error. A report of an id that the backend has yet to return is kept for a day.

    :param outcome: one of :class:`~rapidsms_db_router.choices.Outcome`. ``"delivered"`` makes the
        transmission D; ``"failed"`` and ``"rejected"`` E, unless it is D; ``"accepted"`` and
        ``"buffered"`` S, if the outcome of sending was unknown. A transmission that was never
        handed to a gateway does not move.
    :param message_id: the ``id_`` that the backend was given.
    :param identity: the recipient; not needed for a message to one recipient. Numbers are compared
        by their digits.
    :param external_id: the gateway's own id, of the message or of a part of it.
    :param backend_name: the backend's name, where identities or ids of several may be alike.
    :param date: when it was delivered, also as a text in ISO 8601; now, if it is not said, or
        cannot be true: a day or more before the message was stored, or after now. A naive one is in
        the current time zone.
    :param reason: why it was not, in the gateway's words.
    :returns: whether anything moved.
    :raises ValueError: if the outcome is unknown. No other value is an error: a value that no
        column holds is replaced or cut.
    """
    return _take(
        read(
            outcome,
            message_id=message_id,
            identity=identity,
            external_id=external_id,
            backend_name=backend_name,
            date=date,
            reason=reason,
        )
    )


def record_all(several: Sequence[Mapping[str, Any]]) -> None:
    """Take what a gateway says together of several recipients, in fewer statements.

    Transmissions of the same message that move to the same status move in one transaction. Their
    signal is sent once for all of them. Of several reports of one transmission the one that says
    the most is followed.

    :param several: for each recipient the arguments of :func:`record`.
    :raises ValueError: if an outcome is unknown; then nothing moves.
    """
    reports = [read(**each) for each in several]
    for start in range(0, len(reports), CHUNK):
        some = reports[start : start + CHUNK]
        found = find_together(some) if len(some) > 1 else {}
        _move_all((each, some[place]) for place, each in found.items())
        for place, report in enumerate(some):
            if place not in found:
                _take(report)


def _take(report: Report) -> bool:
    found = find(report)
    if found is not None:
        return moving.move(found, report)
    early = _keep(report)
    if early is None:
        logger.warning("report_unknown outcome=%s", report.outcome.value)
        return False
    logger.info("report_kept outcome=%s", report.outcome.value)
    moved: list[bool] = []
    moving.after_commit(lambda: moved.append(_look_again(report, early)))
    return any(moved)


def _look_again(report: Report, early: EarlyReport) -> bool:
    """Follow a report if the backend has returned the id between the first look and the commit."""
    found = find(report)
    if found is None:
        return False
    EarlyReport.objects.filter(pk=early.pk).delete()
    return moving.move(found, report)


# Reports that come before the id they speak of


def _keep(report: Report) -> EarlyReport | None:
    """Keep a report for the id that it names, if a backend may yet return that."""
    backend = None
    if report.backend_name:
        backend = Backend.objects.using(alias()).filter(name=report.backend_name).first()
        may_return_it = backend is not None and conf.returns_ids(report.backend_name)
    else:
        may_return_it = any(conf.returns_ids(name) for name, _ in conf.installed_backends())
    if not (report.external_id and may_return_it):
        return None
    moment = now()
    early: EarlyReport | None = EarlyReport.objects.keep(
        external_id=report.external_id,
        backend=backend,
        message_id=report.message_id,
        identity=report.identity,
        outcome=report.outcome,
        date=plausible(report.date, moment),
        reason=mask(report.reason)[:LONGEST_EARLY_REASON],
        received=moment,
    )
    if early is not None and early.pk % ROUND < 10:
        expire()
    return early


def expire() -> int:
    """Delete early reports whose ids no backend has returned; return how many."""
    count: int = EarlyReport.objects.expire()
    if count:
        logger.warning("reports_expired count=%s", count)
    return count


def follow_early(ids: Mapping[str, Collection[int]], backend_id: int) -> None:
    """Follow the reports that came before the ids they speak of were known.

    One statement, if there are none; else a few for each message, whatever their number.

    :param ids: the transmissions that a backend has named by each id, just now; committed.
    :param backend_id: the backend.
    """
    if not EarlyReport.objects.has_any(ids):
        return
    named = EarlyReport.objects.filter(Q(backend=None) | Q(backend=backend_id))
    early = [
        report
        for report in named.filter(external_id__in=list(ids)).order_by("pk")
        if report.external_id in ids  # MariaDB compares without regard to case
    ]
    wanted = {pk for report in early for pk in ids[report.external_id]}
    rows = {row.pk: row for row in outbound().filter(pk__in=wanted)}
    pairs = []
    for each in early:
        candidates = (rows[pk] for pk in ids[each.external_id] if pk in rows)
        found = _meant(each, candidates)
        if found is not None:
            pairs.append((found, _report_of(each)))
    _move_all(pairs)
    EarlyReport.objects.filter(pk__in=[report.pk for report in early]).delete()


def _meant(early: EarlyReport, candidates: Iterable[Transmission]) -> Found | None:
    """Return which of the transmissions with its id an early report is about."""
    fits = [
        Found(row, early.external_id if row.external_id != early.external_id else "")
        for row in candidates
        if early.message_id in (None, row.message_id)
        # no report is about what was not even stored when it came
        and row.date <= early.received + CLOCKS
    ]
    return choose(fits, early.identity)


def _report_of(early: EarlyReport) -> Report:
    return Report(
        outcome=Outcome(early.outcome),
        message_id=early.message_id,
        identity=early.identity,
        external_id=early.external_id,
        backend_name="",
        date=early.date or early.received,
        reason=early.reason,
    )


def _move_all(pairs: Iterable[tuple[Found, Report]]) -> None:
    """Move transmissions as reports about them say; those without parts many at a time."""
    whole: dict[int, tuple[Transmission, Report]] = {}
    for found, report in pairs:
        row = found.row
        if moving.is_of_part(found, report):
            moving.move(found, report)
            continue
        if not moving.is_news(row, report):
            continue
        known = whole.get(row.pk)
        if known is None or _weight(report) > _weight(known[1]):
            whole[row.pk] = row, report
    groups: dict[tuple[int, str, str], dict[int, moving.Move]] = {}
    for row, report in whole.values():
        move = moving.target_of(row, report)
        groups.setdefault((row.message_id, move.status, move.error), {})[row.pk] = move
    for moves in groups.values():
        row, _ = whole[next(iter(moves))]
        items = iter(moves.items())
        while some := dict(islice(items, CHUNK)):
            moved = moving.move_all(row.message, some, row.connection.backend.name)
            logger.info("reports message=%s moved=%s", row.message_id, len(moved))


def _weight(report: Report) -> int:
    return WEIGHTS.get(report.outcome, 0)


def _heard(outcome: str, **report: Any) -> None:
    """Follow the signal."""
    report.pop("signal", None)
    report.pop("sender", None)
    record(outcome, **report)


signals.delivery_report.connect(_heard)
