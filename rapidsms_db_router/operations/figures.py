"""What operators ask for, in numbers: the one source of pages, metrics, health and commands.

What waits, and what is in flight, is read from the tables of unfinished work. All else is a sum of
tallies, which are as old as recovery's last turn: a minute with default settings.
"""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Func, IntegerField, Min, Q, Sum
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import circuit, operators
from rapidsms_db_router.limits.circuit import Circuit
from rapidsms_db_router.limits.overrides import Limits, limits_of
from rapidsms_db_router.limits.slots import InFlight, in_flight
from rapidsms_db_router.models import Batch
from rapidsms_db_router.operations import histograms
from rapidsms_db_router.operations.models import Hour, Latency, Outcome, Span, Tally
from rapidsms_db_router.operations.tallies.hours import HOUR, hour_of

#: What is added up of tallies.
SUMS = {"rows": Sum("transmissions"), "parts": Sum("segments")}


class Length(Func):
    """The number of elements of a JSON array."""

    function = "JSON_LENGTH"
    output_field = IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, **{**context, "function": "jsonb_array_length"})

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, **{**context, "function": "json_array_length"})


@dataclass
class Waiting:
    """What of one backend waits to be sent."""

    #: Transmissions that may be sent now.
    ready: int = 0
    #: Transmissions that may be sent later: a date was set, they will be tried again, or operators
    #: have paused their message.
    later: int = 0
    #: Since when the oldest of those that may be sent now is to be sent.
    since: datetime.datetime | None = None

    @property
    def all(self) -> int:
        """How many transmissions there are."""
        return self.ready + self.later


@dataclass
class Flow:
    """What became of the outbound transmissions of a period."""

    counts: Counter[str] = field(default_factory=Counter)
    segments: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """How many the gateway accepted, delivered ones among them."""
        return self.counts[Outcome.SENT] + self.counts[Outcome.DELIVERED]

    @property
    def delivered(self) -> int:
        """How many were delivered."""
        return self.counts[Outcome.DELIVERED]

    @property
    def failed(self) -> int:
        """How many were given up."""
        return self.counts[Outcome.FAILED]

    @property
    def waiting(self) -> int:
        """How many are not sent yet."""
        return self.counts[Outcome.WAITING]

    @property
    def segments_sent(self) -> int:
        """How many SMS segments the gateway accepted: what is paid for."""
        return self.segments[Outcome.SENT] + self.segments[Outcome.DELIVERED]

    @property
    def delivery_rate(self) -> float | None:
        """The share of those sent that was delivered; ``None`` without any delivery report."""
        return self.delivered / self.sent if self.delivered else None


@dataclass
class BackendFigures:
    """One backend, as the page of operations shows it."""

    backend: Backend
    #: In words: whether it works, and why not.
    state: str
    #: Whether operators have paused it.
    is_paused: bool
    #: Whether its circuit is open or half-open.
    is_out_of_order: bool
    waiting: Waiting
    in_flight: InFlight
    #: What it may be asked to do: its options, unless operators have set others.
    limits: Limits
    #: Whether operators have.
    is_limited: bool
    hour: Flow
    day: Flow


def backends() -> list[BackendFigures]:
    """Return the figures of each backend that is installed, or was ever called, by name."""
    waits, flies, moment = waiting(), in_flight(), now()
    day, hour = flows(*(moment - datetime.timedelta(hours=hours) for hours in (24, 1)))
    names = {name for name, _ in conf.installed_backends()}
    rows = Backend.objects.using(alias()).select_related("router_state").order_by("name")
    found = []
    for backend in rows:
        state = operators.state_of(backend)
        has_work = backend.pk in waits or backend.name in day
        if not (backend.name in names or has_work or state is not None):
            continue
        found.append(
            BackendFigures(
                backend=backend,
                state=operators.describe(backend),
                is_paused=state is not None and state.is_paused(moment),
                is_out_of_order=circuit.state_of(state, moment) is not Circuit.CLOSED,
                waiting=waits.get(backend.pk, Waiting()),
                in_flight=flies.get(backend.pk, InFlight()),
                limits=limits_of(state, backend.name),
                is_limited=bool(operators.overrides(state)),
                hour=hour.get(backend.name, Flow()),
                day=day.get(backend.name, Flow()),
            )
        )
    return found


def waiting() -> dict[int, Waiting]:
    """Return what waits to be sent, by the backend's primary key."""
    ready = Q(ready_at__lte=now(), paused=False)
    rows = Batch.objects.filter(claim_token=None)
    found = rows.order_by().values("backend").annotate(
        ready=Sum(Length("transmission_ids"), filter=ready),
        all=Sum(Length("transmission_ids")),
        since=Min("due_at", filter=ready),
    )  # fmt: skip
    return {
        row["backend"]: Waiting(row["ready"] or 0, row["all"] - (row["ready"] or 0), row["since"])
        for row in found
    }


def flows(*since: datetime.datetime) -> list[dict[str, Flow]]:
    """Return what became of the outbound transmissions that were stored in whole hours; one query.

    :param since: several moments; the hour that a moment belongs to is the first of its figures.
    :returns: of each moment the figures by the backend's name.
    """
    firsts = [hour_of(moment) for moment in since]
    found: list[dict[str, Flow]] = [defaultdict(Flow) for _ in firsts]
    tallies = Tally.objects.filter(direction=Direction.OUTGOING, hour__start__gte=min(firsts))
    groups = tallies.values("hour__start", "backend", "outcome").annotate(**SUMS).order_by()
    for row in groups:
        for first, of_period in zip(firsts, found, strict=True):
            if row["hour__start"] >= first:
                each = of_period[row["backend"]]
                each.counts[row["outcome"]] += row["rows"]
                each.segments[row["outcome"]] += row["parts"]
    return [dict(of_period) for of_period in found]


@dataclass
class HourFigures:
    """One hour of a chart."""

    start: datetime.datetime
    flow: Flow = field(default_factory=Flow)
    #: Inbound transmissions.
    received: int = 0


def hours(since: datetime.datetime) -> list[HourFigures]:
    """Return the hours since a moment, also those in which nothing was stored."""
    first, moment = hour_of(since), now()
    starts = [first + number * HOUR for number in range(int((moment - first) / HOUR) + 1)]
    found = {start: HourFigures(start) for start in starts}
    tallies = Tally.objects.filter(hour__start__gte=first)
    groups = tallies.values("hour__start", "direction", "outcome").annotate(**SUMS).order_by()
    for row in groups:
        each = found.setdefault(row["hour__start"], HourFigures(row["hour__start"]))
        if row["direction"] == Direction.OUTGOING:
            each.flow.counts[row["outcome"]] += row["rows"]
            each.flow.segments[row["outcome"]] += row["parts"]
        else:
            each.received += row["rows"]
    return [found[start] for start in sorted(found)]


@dataclass
class Failures:
    """Transmissions that failed with the same backend for the same reason."""

    backend: str
    direction: str
    reason: str
    transmissions: int


def failures(since: datetime.datetime) -> list[Failures]:
    """Return what failed since a moment, by backend and reason, the most first."""
    tallies = Tally.objects.filter(outcome=Outcome.FAILED, hour__start__gte=hour_of(since))
    groups = tallies.values("backend", "direction", "reason").order_by()
    found = groups.annotate(rows=Sum("transmissions")).order_by("-rows", "backend", "reason")
    return [Failures(row["backend"], row["direction"], row["reason"], row["rows"]) for row in found]


def latencies(*since: datetime.datetime) -> list[dict[str, list[int]]]:
    """Return how long transmissions took since each of several moments; one query.

    :returns: of each moment a histogram for each span.
    """
    firsts = [hour_of(moment) for moment in since]
    found: list[dict[str, list[list[int]]]] = [{span: [] for span in Span} for _ in firsts]
    rows = Latency.objects.filter(hour__start__gte=min(firsts))
    for start, span, counts in rows.values_list("hour__start", "span", "counts"):
        for first, of_period in zip(firsts, found, strict=True):
            if start >= first:
                of_period[span].append(counts)
    return [
        {span: histograms.add(several) for span, several in of_period.items()}
        for of_period in found
    ]


def tallied_at() -> datetime.datetime | None:
    """Return when the newest hour was tallied last."""
    newest = Hour.objects.exclude(tallied_at=None).order_by("-start")
    return newest.values_list("tallied_at", flat=True).first()
