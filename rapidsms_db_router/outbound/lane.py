"""What one sender holds and does for one backend."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil

from rapidsms.models import Backend

from rapidsms_db_router.errors import OutcomeUnknown
from rapidsms_db_router.limits.pace import Pace
from rapidsms_db_router.limits.permits import Demand, Permit
from rapidsms_db_router.limits.rate import Grants
from rapidsms_db_router.models import Message
from rapidsms_db_router.models.message import has_expired
from rapidsms_db_router.outbound import response
from rapidsms_db_router.outbound.calls import Call
from rapidsms_db_router.outbound.completion import Completion
from rapidsms_db_router.outbound.held import HeldBatch, in_order
from rapidsms_db_router.outbound.options import Options
from rapidsms_db_router.outbound.response import SendResponse

logger = logging.getLogger(__name__)

#: Transmissions that become P in one step.
MOST_ROWS = 1000
#: Batches that are claimed in one step.
MOST_CLAIMS = 8
#: What part the newest call has in how long a call takes.
NEWEST = 0.1
#: Threads of one backend that may be left behind in one process: then it is called no more.
MOST_ABANDONED = 100


@dataclass
class Turn:
    """What one step changes for one backend: remembered once it is committed."""

    #: What is held, as it will be after the commit.
    held: dict[int, HeldBatch] = field(default_factory=dict)
    completions: list[Completion] = field(default_factory=list)
    #: Batches that recovery has taken away.
    lost: set[int] = field(default_factory=set)
    claimed: list[HeldBatch] = field(default_factory=list)
    #: Whether fewer batches were claimed than were asked for.
    drained: bool = False
    #: Calls to be started.
    calls: list[Call] = field(default_factory=list)
    #: How many recipients were left out, since they were cancelled or delivered meanwhile.
    left_out: int = 0
    #: Batches that are over, or are given back.
    gone: list[HeldBatch] = field(default_factory=list)
    #: In how many seconds each batch that was given back may be claimed again.
    back_in: list[float] = field(default_factory=list)
    #: Messages whose transmissions were not all as expected, as when a report came first.
    unsettled: list[int] = field(default_factory=list)
    expired: list[Message] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """How many recipients are held and to be called."""
        return sum(batch.waiting for batch in self.held.values())

    @property
    def rows(self) -> int:
        """How many recipients are called now."""
        return sum(len(call.rows) for call in self.calls)


class Lane:
    """One backend, as one sender knows it.

    :param backend: the backend.
    :param only: primary keys of batches, if no others may be claimed.
    """

    def __init__(self, backend: Backend, only: Iterable[int] | None = None) -> None:
        self.backend = backend
        self.options = Options.of(backend.name)
        self.only = None if only is None else set(only)
        self.held: dict[int, HeldBatch] = {}
        #: Calls in flight.
        self.calls: set[Call] = set()
        #: Calls that have ended, and are not written down yet.
        self.ended: list[Call] = []
        #: Threads of calls that did not keep their deadline and have not returned.
        self.abandoned = 0
        #: Whether the database may have claimable batches.
        self.more = True
        self.permit = Permit()
        self.permit_until = float("-inf")
        #: Since when no slot was to be had; and whether that is for too long to hold anything.
        self.starving_since: float | None = None
        self.starved = False
        #: Whether it was asked for in the step under way: only then may a trial be made.
        self.fresh = False
        #: How many slots were asked for.
        self.asked = 0
        #: Whether slots are leased.
        self.leased = False
        #: What is granted of the rate; and from when on more may be asked for.
        self.grants = Grants()
        self.grant_from = float("-inf")
        #: When batches that were given back may be claimed again; the first one first (a heap).
        self.wakes: list[float] = []
        #: When other processes may be told again of what waits, and how often they were.
        self.ring_at, self.rings = float("-inf"), 0
        #: Whether a call was made; how much was sent of late, and how long a call took, in seconds.
        self.has_called, self.pace, self.took = False, Pace(), 0.0
        #: Whether the last step found nothing that it could do: another waits for an event.
        self.stalled = False
        #: Whether the last step failed, its commit perhaps not; and the claims of such steps.
        self.uncertain = False
        self.doubtful: list[uuid.UUID] = []

    def read_options(self) -> None:
        """Read the settings of the backend again, and what operators have set instead."""
        self.options = Options.of(self.backend.name, self.permit.limits)

    # What there is to do

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held and nothing is known to wait."""
        return not (self.held or self.calls or self.ended or self.more or self.abandoned)

    @property
    def waiting(self) -> int:
        """How many recipients are held and to be called."""
        return sum(batch.waiting for batch in self.held.values())

    @property
    def leaves_work(self) -> bool:
        """Whether others have to go on where this sender ends.

        Not if it has done nothing: of processes that end at once, each would ring for the next.
        """
        return self.more and self.has_called and not self.permit.blocked

    def call_size(self, message: Message) -> int:
        """Return how many recipients one call may carry: no more than the rate allows a second."""
        if self.options.rate is None:
            return self.options.call_size
        allowed = int(self.options.rate / self.options.segments(message))
        return min(self.options.call_size, max(1, allowed))

    def demand(self, moment: float) -> Demand:
        """Return what could be done now without any limit."""
        in_flight = len(self.calls) - len(self.ended)
        waiting = self.waiting
        calls = in_flight + ceil(waiting / self.options.call_size)
        if self.more:
            calls = self.options.concurrency
        elif calls:
            calls = 2 * calls + 2  # room for what comes before the next permit
        total = first = 0
        for batch in in_order(self.held) if self.options.rate else ():
            if not batch.waiting:
                continue
            each = self.options.segments(batch.message)
            first = first or each * min(batch.waiting, self.call_size(batch.message))
            total += each * batch.waiting
        if self.options.rate and self.more:
            first, total = first or 1, max(total, int(self.options.rate) + 1)
        return Demand(
            calls=min(calls, self.options.concurrency),
            segments=total,
            next_segments=first,
            in_flight=in_flight,
            abandoned=self.abandoned,
            pace=self.pace.at(moment),
            granted=self.grants.held(moment),
            took=self.took,
        )

    @property
    def is_blocked(self) -> bool:
        """Whether nothing may be called, so that nothing should be held."""
        return self.permit.blocked or self.starved or self.abandoned >= MOST_ABANDONED

    @property
    def is_troubled(self) -> bool:
        """Whether the circuit breaker is to be told, or a trial may be made: in the step itself."""
        outages = any(call.response and call.response.outage for call in self.ended)
        return outages or self.permit.failing or self.permit.trial or not self.permit.slots

    def free_calls(self) -> int:
        """Return how many calls may be started now, but for the rate."""
        if self.is_blocked:
            return 0
        if self.permit.trial and not self.fresh:
            return 0
        in_flight = len(self.calls) - len(self.ended)
        return min(self.permit.slots, self.options.concurrency) - in_flight

    def needs_permit(self, moment: float) -> bool:
        """Return whether it is time to ask what may be done."""
        return self.permit_until <= moment or self.needs_slots or self.needs_grant(moment)

    def needs_grant(self, moment: float) -> bool:
        """Return whether calls could be made if more of the rate were granted."""
        if self.options.rate is None or moment < self.grant_from or self.free_calls() <= 0:
            return False
        return (self.more or self.waiting > 0) and not self.grants.held(moment)

    @property
    def is_full(self) -> bool:
        """Whether recipients wait for a call to end, and not for the rate."""
        waits = (self.more or self.waiting > 0) and not self.is_blocked
        return waits and (self.options.rate is None or self.free_calls() <= 0)

    @property
    def needs_slots(self) -> bool:
        """Whether more slots are needed than were asked for."""
        got_all = self.permit.slots == self.asked < self.options.concurrency
        return got_all and self.waiting > 0 and self.free_calls() <= 0

    def needs_step(self, moment: float) -> bool:
        """Return whether a step would find something to do."""
        if self.ended or self.uncertain:
            return True
        if self.permit_until <= moment or self.needs_slots:
            return not self.is_idle or self.leased
        if self.stalled or not (self.more or self.waiting) or self.free_calls() <= 0:
            return False
        granted = self.options.rate is None or self.grants.at(moment) is not None
        return granted or self.needs_grant(moment)

    def next_step(self, moment: float) -> float:
        """Return when a step is needed, if nothing happens before."""
        if self.needs_step(moment):
            return moment
        at = self.wakes[0] if self.wakes else float("inf")
        if not self.is_idle or self.leased:
            at = min(at, self.permit_until)
        if self.calls:
            at = min(at, min(call.deadline for call in self.calls))
        if self.waiting and not self.stalled:
            at = min(at, self.grants.next_at(moment))
        if self.needs_grant(max(moment, self.grant_from)) and not self.stalled:
            at = min(at, self.grant_from)
        return at

    # What is chosen

    def claims_wanted(self, waiting: int) -> int:
        """Return how many batches a step may claim.

        :param waiting: how many recipients are held and to be called.
        """
        if not self.more or self.free_calls() <= 0:
            return 0
        most = min(self.permit.slots * self.options.call_size, MOST_ROWS)
        return min(ceil(max(most - waiting, 0) / self.options.claim_size), MOST_CLAIMS)

    def choose(self, turn: Turn, moment: float) -> Iterator[Call]:
        """Yield the calls to be made now: as many as may be, in order, no person twice at once."""
        free, rows = self.free_calls(), 0
        ended = {row.connection_id for call in self.ended for row in call.rows}
        busy = {row.connection_id for call in self.calls for row in call.rows} - ended
        for batch in in_order(turn.held):
            if batch.waiting and has_expired(batch.message):
                turn.expired.append(batch.message)
                batch.drop_pending()
            size = self.call_size(batch.message)
            each = 1 if self.options.rate is None else self.options.segments(batch.message)
            while free > 0 and rows < MOST_ROWS and batch.waiting:
                grant, fits = self.grants.at(moment), size
                if self.options.rate is not None:
                    fits = 0 if grant is None else min(size, grant.fits(each))
                if not fits:
                    return
                recipients = batch.next_rows(fits, busy)
                if not recipients:
                    break
                if grant is not None:
                    grant.spend(len(recipients) * each, moment)
                free, rows = free - 1, rows + len(recipients)
                yield Call(
                    self.backend.pk,
                    self.backend.name,
                    batch.message,
                    recipients,
                    batch.id,
                    moment + self.options.timeout,
                    trial=self.permit.trial,
                )

    def end(self, call: Call, answered: SendResponse, moment: float) -> None:
        """Take the response of a call, which has ended just now."""
        call.response = answered
        self.ended.append(call)
        seconds = max(moment - call.deadline + self.options.timeout, 0.0)
        self.took += (seconds - self.took) * (NEWEST if self.took else 1.0)

    def end_overdue(self, moment: float) -> None:
        """End the calls that have not kept their deadline; their threads are left behind."""
        for call in self.calls:
            if call.deadline > moment or call.response is not None:
                continue
            error = OutcomeUnknown(f"no answer within {self.options.timeout:g} s")
            call.response = response.read(call.rows, None, error)
            self.ended.append(call)
            self.abandoned += 1
            logger.error("call_abandoned message=%s backend=%s", call.message.pk, call.backend_id)

    def notice(self, moment: float) -> None:
        """Notice that what was given back for a later date may be claimed."""
        while self.wakes and self.wakes[0] <= moment:
            heappop(self.wakes)
            self.more, self.stalled = True, False

    def remember(self, turn: Turn, moment: float) -> None:
        """Have the memory follow what a step has committed."""
        for pk in turn.lost:
            logger.warning("claim_lost batch=%s", pk)
        gone = {batch.id for batch in turn.gone}
        self.held = {pk: batch for pk, batch in turn.held.items() if pk not in gone}
        ended = {done.call for done in turn.completions}
        self.calls = (self.calls - ended) | set(turn.calls)
        self.has_called = self.has_called or bool(turn.calls)
        self.ended = [call for call in self.ended if call not in ended]
        if sent := sum(len(d.sent) * d.call.message.segments for d in turn.completions):
            self.pace.add(sent, moment)
        for seconds in turn.back_in:
            heappush(self.wakes, moment + seconds)
        self.more = (self.more and not turn.drained) or 0.0 in turn.back_in
        limited = self.options.rate is not None and self.grants.at(moment) is None
        moved = turn.calls or turn.claimed or turn.completions or turn.left_out
        self.stalled = not (moved or limited)
