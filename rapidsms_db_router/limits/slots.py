"""The concurrency of a backend: slots, of which each sender leases some.

A slot is one call in flight. The senders of all workers together lease no more slots than the
backend has; each leases its fair share (max-min fairness), and what others leave over.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Sum

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import SlotLease

#: A lease that is not renewed for this many seconds has ended: its sender is gone.
LEASE = datetime.timedelta(seconds=10)


@dataclass(frozen=True)
class InFlight:
    """The calls of one backend that all workers make now."""

    calls: int = 0
    #: Threads of calls that did not keep their deadline.
    abandoned: int = 0
    #: Worker processes that send to it.
    senders: int = 0
    #: SMS segments a second that they have sent of late.
    pace: float = 0.0


def in_flight() -> dict[int, InFlight]:
    """Return the calls that are made now, by the backend's primary key."""
    leases = SlotLease.objects.filter(expires_at__gt=now()).order_by().values("backend")
    found = leases.annotate(
        calls=Sum("in_flight"),
        threads=Sum("abandoned"),
        senders=Count("sender", distinct=True),
        speed=Sum("pace"),
    )
    return {
        row["backend"]: InFlight(row["calls"], row["threads"], row["senders"], row["speed"])
        for row in found
    }


def fair_share(slots: int, wanted: int, others: Sequence[int]) -> int:
    """Return how many slots a sender may lease in the end.

    :param slots: how many there are.
    :param wanted: how many it wants.
    :param others: how many each other sender wants.
    :returns: max-min fair: no sender with more could give a slot to one with less.
    """
    left, senders = slots, len(others) + 1
    for want in sorted(others):
        if want * senders > left:
            break
        left -= want
        senders -= 1
    return min(wanted, max(1, left // senders))


def lease_slots(
    backend_id: int,
    sender: uuid.UUID,
    *,
    slots: int,
    wanted: int,
    in_flight: int,
    abandoned: int,
    pace: float = 0.0,
    moment: datetime.datetime,
) -> tuple[int, float]:
    """Lease a sender its share of the slots of a backend, whose state the caller has locked.

    :param slots: how many the backend has.
    :param wanted: how many calls the sender could have in flight.
    :param in_flight: how many it has.
    :param abandoned: threads that did not keep their deadline.
    :param pace: SMS segments a second that it has sent of late.
    :returns: how many it may have in flight, and what part of all leased slots that is, from 0 to
        1. Slots of calls in flight are not taken away.
    """
    leases = SlotLease.objects.filter(backend=backend_id)
    others = list(leases.exclude(sender=sender).filter(expires_at__gt=moment))
    share = fair_share(slots, wanted, [other.wanted for other in others])
    free = slots - sum(max(other.slots, other.in_flight) for other in others)
    # of what cannot be divided evenly one more, where that leaves the others their share
    kept = sum(max(each.slots, each.in_flight, min(each.wanted, share)) for each in others)
    leased = max(min(share, free), min(wanted, share + 1, slots - kept), 0)
    values = {
        "slots": leased,
        "wanted": wanted,
        "in_flight": in_flight,
        "abandoned": abandoned,
        "pace": pace,
        "expires_at": moment + LEASE,
    }
    mine = leases.filter(sender=sender)
    if not wanted and not in_flight and not abandoned:
        mine.delete()
    elif not mine.update(**values):
        leases.filter(expires_at__lte=moment).delete()
        SlotLease.objects.create(backend_id=backend_id, sender=sender, **values)
    return leased, leased / max(leased + sum(other.slots for other in others), 1)


def release_slots(backend_id: int, sender: uuid.UUID) -> None:
    """Give back all slots of a sender, which has nothing more to send to a backend."""
    SlotLease.objects.filter(backend=backend_id, sender=sender).delete()
