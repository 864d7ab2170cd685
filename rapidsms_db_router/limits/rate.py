"""The rate of a backend: a generic cell rate algorithm (GCRA, ITU-T I.371) that grants in advance.

A backend's state holds the moment up to which its rate is granted. A sender is granted the
segments of about a quarter of a second, or the fewer that its slots can send meanwhile. It spaces
its own calls within its grant, so that no call needs a statement of its own.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from math import ceil

#: A grant holds the segments of this many seconds, and at least those of one call.
GRANT = 0.25
#: A grant begins no later than this, in seconds: it must not outlive the sender that asked.
HORIZON = 0.25
#: Segments that were not sent in time may still be sent this many seconds later: in no second are
#: more than 1.1 times the rate sent.
LATE = 0.1
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
    #: Segments a second.
    rate: float

    def is_over(self, moment: float) -> bool:
        """Return whether no call can be made by it any more."""
        return not self.fits(1) or moment > self.until + LATE

    def allows(self, moment: float) -> bool:
        """Return whether a call may be made now."""
        return self.next_at <= moment and not self.is_over(moment)

    def fits(self, segments: int) -> int:
        """Return how many messages of that many segments each may be sent by it."""
        # the database's dates have microseconds, so that a grant may be a hair too short
        return int((self.until - self.next_at) * self.rate / segments + ROUNDING)

    def extend(self, other: Grant) -> bool:
        """Take in a grant that begins where this one ends; return whether it does."""
        if abs(other.next_at - self.until) > CONTIGUOUS or other.rate != self.rate:
            return False
        self.until = other.until
        return True

    def spend(self, segments: int, moment: float) -> None:
        """Count a call."""
        self.next_at = max(self.next_at, moment - LATE) + segments / self.rate


def sendable(slots: int, busy: int, took: float, rate: float, each: int) -> float:
    """Return how many segments a sender can send in a grant, which is spent at the whole rate.

    A sender of few slots that is granted more keeps the others from sending meanwhile.

    :param slots: how many calls it may have in flight.
    :param busy: how many of these will still be in flight when the grant begins.
    :param took: how long a call takes, in seconds; 0 if that is not known.
    :param rate: segments a second.
    :param each: segments of a call.
    """
    # each slot that a call leaves before the grant ends makes another call
    ended = slots * each / (rate * took) if took else 1.0
    return (slots - busy) * each / (1 - ended) if ended < 1 else float("inf")


def grant(
    granted_until: datetime.datetime | None,
    moment: datetime.datetime,
    rate: float,
    segments: int,
    first: int,
) -> tuple[datetime.datetime, datetime.datetime] | None:
    """Return from when to when a backend's rate is granted to a sender.

    :param granted_until: up to when it is granted already.
    :param moment: now.
    :param rate: segments a second.
    :param segments: segments that the sender has to send.
    :param first: segments of its next call, which must fit.
    :returns: ``None`` if the next free moment is too far ahead.
    """
    # a sender that asks a little late goes on where the last grant ends
    late = moment - datetime.timedelta(seconds=LATE)
    start = moment if granted_until is None or granted_until < late else granted_until
    ahead = (start - moment).total_seconds()
    if ahead > HORIZON:
        return None
    most = max(first, min(segments, ceil(rate * (GRANT - min(ahead, 0.0)))))
    return start, start + datetime.timedelta(seconds=most / rate)
