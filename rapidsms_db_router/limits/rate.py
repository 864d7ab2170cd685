"""The rate of a backend: a generic cell rate algorithm (GCRA, ITU-T I.371) that grants in advance.

A backend's state holds the moment up to which its rate is granted. A sender is granted its share of
a quarter of a second, as large as its share of the slots. It spaces its own calls within its grant,
so that no call needs a statement of its own.
"""

from __future__ import annotations

import datetime
from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

#: A grant is spent in this many seconds; it holds at least the segments of one call.
GRANT = 0.25
#: A grant begins no later than this, in seconds: it must not outlive the sender that asked.
HORIZON = 0.25
#: Segments that were not sent in time may still be sent this many seconds later: in no second are
#: more than 1.1 times the rate sent.
LATE = 0.1
#: Fewer calls are sent at the whole rate: spread, those of several senders could come together.
FEW = 4
#: Grants this close to each other are one, in seconds: they were read off two clocks.
CONTIGUOUS = 0.01
#: The part of a segment that a grant may lack: a microsecond at 10,000 segments a second.
ROUNDING = 0.01


@dataclass
class Grant:
    """Segments that a sender may send, evenly from a moment on.

    Moments are those of the sender's own monotonic clock, in seconds.
    """

    #: When the next call may be made.
    next_at: float
    #: When the grant ends.
    until: float
    #: Segments a second: the sender's share of the rate.
    pace: float

    def is_over(self, moment: float) -> bool:
        """Return whether no call can be made by it any more."""
        return not self.fits(1) or moment > self.until + LATE

    def allows(self, moment: float) -> bool:
        """Return whether a call may be made now."""
        return self.next_at <= moment and not self.is_over(moment)

    def fits(self, segments: int) -> int:
        """Return how many messages of that many segments each may be sent by it."""
        # the database's dates have microseconds, so that a grant may be a hair too short
        return int((self.until - self.next_at) * self.pace / segments + ROUNDING)

    def extend(self, other: Grant) -> bool:
        """Take in a grant that begins where this one ends; return whether it does."""
        if abs(other.next_at - self.until) > CONTIGUOUS or other.pace != self.pace:
            return False
        self.until = other.until
        return True

    def spend(self, segments: int, moment: float) -> None:
        """Count a call."""
        self.next_at = max(self.next_at, moment - LATE) + segments / self.pace


class Grants:
    """What a sender is granted: one grant after the other."""

    def __init__(self) -> None:
        self._grants: deque[Grant] = deque()

    def at(self, moment: float) -> Grant | None:
        """Return the grant that allows a call now, if one does."""
        first = self._first(moment)
        return first if first is not None and first.allows(moment) else None

    def next_at(self, moment: float) -> float:
        """Return from when on a call is allowed; infinity if nothing is granted."""
        first = self._first(moment)
        return float("inf") if first is None else max(first.next_at, moment)

    def held(self, moment: float) -> int:
        """Return how many segments are granted and not sent."""
        return sum(grant.fits(1) for grant in self._grants if not grant.is_over(moment))

    def take(self, granted: Granted, moment: float) -> None:
        """Take what is granted now; it is sent after what was granted before."""
        start = moment + granted.ahead
        if self._first(moment) is not None:
            start = max(start, self._grants[-1].until)
        grant = Grant(start, start + granted.segments / granted.pace, granted.pace)
        if not (self._grants and self._grants[-1].extend(grant)):
            self._grants.append(grant)

    def _first(self, moment: float) -> Grant | None:
        while self._grants and self._grants[0].is_over(moment):
            self._grants.popleft()
        return self._grants[0] if self._grants else None


class Share(NamedTuple):
    """What part of the rate a sender may use, and what it can use of it."""

    #: Its part of the slots that all senders have, from 0 to 1.
    part: float = 1.0
    #: Segments a second that its slots can send, if that is known.
    most: float = float("inf")
    #: Segments that it is granted already and has not sent.
    held: int = 0


class Granted(NamedTuple):
    """What a sender is granted."""

    #: In how many seconds it begins; negative if a sender asks a little late.
    ahead: float
    segments: int
    #: Segments a second.
    pace: float


def grant(
    granted_until: datetime.datetime | None,
    moment: datetime.datetime,
    rate: float,
    segments: int,
    first: int,
    share: Share,
) -> Granted | None:
    """Return what a sender is granted of a backend's rate.

    Senders that take their shares at the same time keep the rate together, and each asks once for
    all that it sends in a grant. The next that asks is granted what others leave of their shares.

    :param granted_until: up to when the rate is granted already.
    :param moment: now.
    :param rate: segments a second.
    :param segments: segments that the sender has to send.
    :param first: segments of its next call, which must fit.
    :param share: the sender's share.
    :returns: ``None`` if the next free moment is too far ahead, or what it holds is enough.
    """
    # a sender that asks a little late goes on where the last grant ends
    late = moment - datetime.timedelta(seconds=LATE)
    start = moment if granted_until is None or granted_until < late else granted_until
    ahead = (start - moment).total_seconds()
    if ahead > HORIZON:
        return None
    left_over = max(-ahead, 0.0)
    seconds = GRANT + left_over
    pace = min(rate * (GRANT * share.part + left_over) / seconds, share.most)
    count = min(segments, ceil(pace * seconds)) - share.held
    if count < first:
        if share.held:
            return None
        count = first
    # few calls come in their place among those of others
    return Granted(ahead, count, rate if count < FEW * first else pace)
