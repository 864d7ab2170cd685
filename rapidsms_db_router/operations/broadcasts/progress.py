"""How far a broadcast has come."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass

from django.db.models import Count, Q

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.transmission import GIVEN_UP
from rapidsms_db_router.operations.reasons import BEGINS, reason_of
from rapidsms_db_router.operations.words import STATES

#: What the bar shows, in this order.
ORDER = ("delivered", "sent", "processing", "retrying", "waiting", "failed")
#: The rate is that of the last minute.
RECENT = datetime.timedelta(minutes=1)


@dataclass(frozen=True)
class Progress:
    """How far a broadcast has come."""

    #: Transmissions by state, in the order of the bar.
    counts: dict[str, int]
    #: Those that were sent within the last minute.
    recent: int

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
    def end(self) -> datetime.datetime | None:
        """When the last is expected to be sent; ``None`` if that cannot be told."""
        if not (self.left and self.recent):
            return None
        return now() + datetime.timedelta(seconds=self.left / self.rate)

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
    """Return how far a broadcast has come; one query."""
    rows = Transmission.objects.filter(message=message)
    counts = {name: Count("pk", filter=STATES[name][1]) for name in ORDER}
    recent = Count("pk", filter=Q(sent__gte=now() - RECENT))
    found = rows.aggregate(recent=recent, **{f"of_{name}": each for name, each in counts.items()})
    return Progress({name: found[f"of_{name}"] for name in ORDER}, found["recent"])


def reasons(message: Message) -> list[tuple[str, int]]:
    """Return why transmissions of a message failed, the most frequent reason first."""
    failed = Transmission.objects.filter(GIVEN_UP, message=message).order_by()
    begins = failed.annotate(begins=BEGINS).values_list("begins")
    found: Counter[str] = Counter()
    for begin, count in begins.annotate(number=Count("pk")):
        found[reason_of(begin)] += count
    return found.most_common()
