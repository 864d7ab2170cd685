"""How far a broadcast has come."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.core.cache import cache
from django.db.models import Count, Q, QuerySet, Sum
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import operators
from rapidsms_db_router.limits.overrides import limits_of
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.transmission import GIVEN_UP
from rapidsms_db_router.operations.figures import Length
from rapidsms_db_router.operations.reasons import BEGINS, reason_of
from rapidsms_db_router.operations.words import STATES
from rapidsms_db_router.outbound.discarding import CANCELLED, EXPIRED

#: What the bar shows, in this order.
ORDER = ("delivered", "sent", "processing", "retrying", "waiting", "failed")
#: The rate is that of the last minute.
RECENT = datetime.timedelta(minutes=1)
#: The counts of a broadcast to so many are kept, for so many times as long as it took to count.
MANY, TIMES = 100_000, 20


@dataclass(frozen=True)
class Remaining:
    """What one backend still has to send of a broadcast."""

    backend: Backend
    #: In words: whether it works, and why not.
    state: str
    #: Whether it works.
    works: bool
    #: How many people.
    people: int
    #: How many seconds they take at its rate; ``None``: it has none.
    seconds: float | None


@dataclass(frozen=True)
class Progress:
    """How far a broadcast has come."""

    #: Transmissions by state, in the order of the bar.
    counts: dict[str, int]
    #: Those that were sent within the last minute.
    recent: int
    #: When that was counted.
    counted_at: datetime.datetime
    #: Why some failed, the most frequent reason first.
    reasons: list[Reason] = field(default_factory=list)
    #: What is left, by backend.
    remaining: list[Remaining] = field(default_factory=list)
    #: Whether operators have paused it.
    is_paused: bool = False
    #: Before when nothing is sent.
    not_before: datetime.datetime | None = None

    @property
    def total(self) -> int:
        """How many people the broadcast is for."""
        return sum(self.counts.values())

    @property
    def left(self) -> int:
        """How many are still to be sent."""
        return self.counts["waiting"] + self.counts["processing"] + self.counts["retrying"]

    @property
    def rate(self) -> float:
        """How many are sent a second."""
        return self.recent / RECENT.total_seconds()

    @property
    def is_timed(self) -> bool:
        """Whether the end is that of the backends' rates, since nothing was sent of late."""
        return not self.recent

    @property
    def end(self) -> datetime.datetime | None:
        """When the last is expected to be sent; ``None`` if that cannot be told."""
        if not self.left or self.is_paused:
            return None
        if self.recent:
            return now() + datetime.timedelta(seconds=self.left / self.rate)
        works = [each.seconds for each in self.remaining if each.works]
        seconds = [each for each in works if each is not None]
        if not seconds or len(seconds) < len(self.remaining):
            return None
        begin = max(now(), self.not_before or now())
        return begin + datetime.timedelta(seconds=max(seconds))

    @property
    def parts(self) -> list[tuple[str, int, float, float]]:
        """Return of each state its name, number, and begin and width in percent of the bar."""
        found, begin = [], 0.0
        for name, count in self.counts.items():
            width = 100 * count / self.total if self.total else 0.0
            found.append((name, count, begin, width))
            begin += width
        return found


def progress(message: Message) -> Progress:
    """Return how far a broadcast has come; four queries.

    To count a broadcast to a million takes a second. So the counts of a large one are kept for a
    while, in Django's cache, and are told with the moment at which they were counted.
    """
    key = f"rapidsms_db_router.operations.progress.{message.pk}"
    kept = cache.get(key)
    if kept is None:
        began, moment = time.monotonic(), now()
        kept = *_counts(message), moment
        took = time.monotonic() - began
        if sum(kept[0].values()) >= MANY:
            cache.set(key, kept, TIMES * took)
    counts, recent, found, moment = kept
    return Progress(
        counts=counts,
        recent=recent,
        reasons=found,
        counted_at=moment,
        remaining=_remaining(message),
        is_paused=message.paused_at is not None,
        not_before=message.not_before,
    )


def _counts(message: Message) -> tuple[dict[str, int], int, list[Reason]]:
    """Return the transmissions of a message by state, those sent of late, and why some failed."""
    rows = Transmission.objects.filter(message=message)
    counts = {name: Count("pk", filter=STATES[name][1]) for name in ORDER}
    recent = Count("pk", filter=Q(sent__gte=now() - RECENT))
    found = rows.aggregate(recent=recent, **{f"of_{name}": each for name, each in counts.items()})
    by_state = {name: found[f"of_{name}"] for name in ORDER}
    return by_state, found["recent"], reasons(message) if by_state["failed"] else []


def _remaining(message: Message) -> list[Remaining]:
    batches = Batch.objects.filter(message=message).order_by().values_list("backend")
    people = dict(batches.annotate(people=Sum(Length("transmission_ids"))))
    backends = Backend.objects.using(alias()).filter(pk__in=people).select_related("router_state")
    found = []
    for backend in backends.order_by("name"):
        rate = limits_of(operators.state_of(backend), backend.name).rate
        segments = people[backend.pk] * message.segments
        seconds = None if rate is None else segments / rate
        told = operators.describe(backend), operators.works(backend)
        found.append(Remaining(backend, *told, people[backend.pk], seconds))
    return found


# What failed


@dataclass(frozen=True)
class Reason:
    """Why some people got nothing."""

    reason: str
    count: int

    @property
    def given_up(self) -> bool:
        """Whether nothing failed: it was cancelled, or has expired."""
        return self.reason.startswith((CANCELLED, EXPIRED))


def reasons(message: Message) -> list[Reason]:
    """Return why transmissions of a message failed, the most frequent reason first."""
    begins = _failed(message).order_by().annotate(begins=BEGINS).values_list("begins")
    found: Counter[str] = Counter()
    for begin, count in begins.annotate(number=Count("pk")):
        found[reason_of(begin)] += count
    return [Reason(reason, count) for reason, count in found.most_common()]


def failed(message: Message, reason: str | None = None) -> list[int]:
    """Return the transmissions of a message that have failed: primary keys.

    :param reason: only those that failed for this reason; ``None``: for any, but for those that
        were cancelled or have expired.
    """
    begins: Iterable[tuple[int, str]] = (
        _failed(message).annotate(begins=BEGINS).values_list("pk", "begins").iterator(5000)
    )
    several = ((pk, Reason(reason_of(begin), 1)) for pk, begin in begins)
    if reason is None:
        return [pk for pk, each in several if not each.given_up]
    return [pk for pk, each in several if each.reason == reason]


def _failed(message: Message) -> QuerySet[Transmission]:
    return Transmission.objects.filter(GIVEN_UP, message=message)
