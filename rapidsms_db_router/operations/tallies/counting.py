"""Counting the transmissions of one hour: one statement."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from django.db.models import (
    Case,
    Count,
    DateTimeField,
    ExpressionWrapper,
    F,
    IntegerField,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.models.transmission import BACKEND, GIVEN_UP
from rapidsms_db_router.operations import histograms
from rapidsms_db_router.operations.models import Hour, Latency, Outcome, Span, Tally
from rapidsms_db_router.operations.reasons import BEGINS, MOST, OTHER, reason_of
from rapidsms_db_router.operations.tallies.hours import end_of

OUTCOME = Case(
    When(status=Status.DELIVERED, then=Value(Outcome.DELIVERED)),
    When(status=Status.SENT, then=Value(Outcome.SENT)),
    When(status=Status.RECEIVED, then=Value(Outcome.RECEIVED)),
    When(GIVEN_UP, then=Value(Outcome.FAILED)),
    default=Value(Outcome.WAITING),
)
#: From when on a transmission may be sent.
READY = Case(
    When(message__not_before__isnull=False, then=F("message__not_before")), default=F("date")
)
#: From when to when each span lasts.
SPANS = {
    Span.ANSWERED: (F("message__in_response_to__date"), "sent"),
    Span.SENT: (READY, "sent"),
    Span.DELIVERED: (F("sent"), "delivered"),
}


def count(hour: Hour) -> tuple[list[Tally], list[Latency]]:
    """Return the tallies of an hour, not saved."""
    numbers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    latencies: dict[tuple[str, str], list[int]] = defaultdict(histograms.empty)
    for group in _groups(hour):
        key = group["backend"], group["way"], group["outcome"], reason_of(group["begins"])
        numbers[key].update(transmissions=group["rows"], segments=group["segments"])
        for span in Span:
            if (bucket := group[_name(span)]) is not None:
                latencies[group["backend"], span][bucket] += group["rows"]
    tallies = [
        Tally(
            hour=hour,
            backend=backend,
            direction=direction,
            outcome=outcome,
            reason=reason,
            **counts,
        )
        for (backend, direction, outcome, reason), counts in _bounded(numbers)
    ]
    return tallies, [
        Latency(hour=hour, backend=backend, span=span, counts=counts)
        for (backend, span), counts in latencies.items()
    ]


def rows_of(hour: Hour) -> QuerySet[Transmission]:
    """Return the transmissions of an hour."""
    rows, end = Transmission.objects.filter(pk__gte=hour.first_id), end_of(hour)
    return rows if end is None else rows.filter(pk__lt=end)


def _groups(hour: Hour) -> Iterator[dict[str, Any]]:
    outbound = Q(message__direction=Direction.OUTGOING)
    grouped = rows_of(hour).annotate(
        backend=BACKEND,
        way=F("message__direction"),
        outcome=OUTCOME,
        begins=Case(When(GIVEN_UP, then=BEGINS), default=Value("")),
        **{_name(span): _bucket(outbound, *SPANS[span]) for span in Span},
    )
    names = ("backend", "way", "outcome", "begins", *map(_name, Span))
    counted = grouped.order_by().values(*names)
    yield from counted.annotate(rows=Count("pk"), segments=Sum("message__segments")).iterator()


def _name(span: Span) -> str:
    # the bare word is a column already
    return f"time_{span.value}"


def _bucket(which: Q, begin: Any, end: str) -> Case:
    """Return the place of the bucket that the time from one date to another belongs to."""
    ended = which & Q(**{f"{end}__isnull": False})
    bounds = [
        When(ended & Q(**{f"{end}__lte": _later(begin, seconds)}), then=Value(place))
        for place, seconds in enumerate(histograms.BOUNDS)
    ]
    last = When(ended & Q(**{f"{end}__gt": begin}), then=Value(len(histograms.BOUNDS)))
    return Case(*bounds, last, default=None, output_field=IntegerField())


def _later(begin: Any, seconds: int) -> ExpressionWrapper:
    later = begin + datetime.timedelta(seconds=seconds)
    return ExpressionWrapper(later, output_field=DateTimeField())


def _bounded(
    numbers: dict[tuple[str, ...], Counter[str]],
) -> Iterator[tuple[tuple[str, ...], Counter[str]]]:
    """Yield the numbers by key, with no more than some reasons for each backend."""
    seen: Counter[tuple[str, ...]] = Counter()
    others: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for key, counts in sorted(numbers.items(), key=lambda item: -item[1]["transmissions"]):
        *group, reason = key
        seen[tuple(group)] += 1
        if reason and seen[tuple(group)] > MOST:
            others[(*group, OTHER)].update(counts)
        else:
            yield key, counts
    yield from others.items()
