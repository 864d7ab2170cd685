"""The sender: the life of a batch, in steps.

A step is one short transaction for each backend that has something to do:

1. write down how calls have ended since the last step;
2. claim the next batches, if there is room;
3. mark as P the transmissions that will be called now, and no others;
4. commit, then start those calls.

So P is what is in flight. A step has no thread in it: it takes its clock and its executor as
arguments, and a test may stop it anywhere.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

from django.db import transaction
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import is_transient
from rapidsms_db_router.engine import engine
from rapidsms_db_router.errors import RetryLater
from rapidsms_db_router.limits import permits
from rapidsms_db_router.limits.permits import Permit
from rapidsms_db_router.limits.slots import release_slots
from rapidsms_db_router.outbound import asking, completion, queue, response, settling
from rapidsms_db_router.outbound.calls import Call, Executor, Job
from rapidsms_db_router.outbound.completion import Completion
from rapidsms_db_router.outbound.held import MOST_REFUSED, HeldBatch
from rapidsms_db_router.outbound.lane import MOST_CLAIMS, MOST_ROWS, Lane, Turn
from rapidsms_db_router.outbound.response import SendResponse

logger = logging.getLogger(__name__)

#: Other processes are told of batches that wait after this many seconds, then after twice as many
#: each time, up to the second number.
RING_AFTER, RING_EVERY = 0.25, 8.0


class Sender:
    """Sends the batches of some backends, on one thread and one connection to the database.

    :param executor: what makes the calls.
    :param clock: seconds that never go back.
    :param ring: tells another process that a backend has more batches to be claimed.
    :param limited: whether limits, pauses and the circuit breaker count. Eager mode does not ask,
        and tries again at once.
    :param completed: is told how each call ended, once that is written down.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
        ring: Callable[[Backend], None] | None = None,
        limited: bool = True,
        completed: Callable[[Completion], None] | None = None,
    ) -> None:
        self.id = uuid.uuid4()
        self.executor = executor
        self.clock = clock
        self.ring = ring
        self.limited = limited
        self.completed = completed
        self.lanes: dict[int, Lane] = {}
        #: Whether nothing more is claimed or started.
        self.draining = False
        self._inbox: SimpleQueue[Job] = SimpleQueue()
        #: What follows a commit; done again if the database refuses.
        self._after: deque[Job] = deque()
        self._renewed = clock()

    # From any thread

    def wake(self, backend: Backend) -> None:
        """Have the sender look for batches of a backend."""
        self._inbox.put(lambda: self._wake(backend))

    def hand_over(self, backend: Backend, batch: HeldBatch) -> None:
        """Give the sender a batch that was stored as claimed by it."""
        self._inbox.put(lambda: self._take(backend, batch))

    def drain(self) -> None:
        """Have nothing more claimed or started."""
        self._inbox.put(lambda: setattr(self, "draining", True))

    # From the sender's own thread

    def wait(self, seconds: float) -> bool:
        """Wait until something happens, at most for so many seconds; return whether it did."""
        try:
            job = self._inbox.get_nowait()
        except Empty:
            # with a time of 0, and without the look before, Python's queue may wait for ever
            if seconds <= 0:
                return False
            try:
                job = self._inbox.get(timeout=seconds)
            except Empty:
                return False
        job()
        return True

    def next_step(self) -> float:
        """Return in how many seconds a step is needed, if nothing happens before."""
        if self._after:
            return 0.0
        moment = self.clock()
        renewal = self._renewed + conf.visibility_timeout() / 3
        at = min((lane.next_step(moment) for lane in self.lanes.values()), default=renewal)
        return max(min(at, renewal) - moment, 0.0)

    def close(self) -> None:
        """Give back the slots, and tell others of what is left: nothing more will be sent."""
        for lane in self.lanes.values():
            if lane.leased:
                release_slots(lane.backend.pk, self.id)
                lane.leased = False
            if self.ring is not None and lane.leaves_work:
                self.executor.run(partial(self.ring, lane.backend))
        self.executor.close()

    @property
    def is_done(self) -> bool:
        """Whether nothing is held, in flight, or still to be written."""
        lanes = self.lanes.values()
        return not self._after and not any(
            lane.held or lane.calls or lane.ended or lane.uncertain for lane in lanes
        )

    @property
    def is_pressed(self) -> bool:
        """Whether recipients wait for a call to end, so that the next step should come soon."""
        return any(lane.is_full for lane in self.lanes.values())

    def step(self) -> None:
        """Do what there is to do now, for every backend.

        :raises Exception: what the database raised; nothing is forgotten by that.
        """
        for _ in range(self._inbox.qsize()):
            self.wait(0)
        self._settle()
        failure: Exception | None = None
        for lane in list(self.lanes.values()):
            lane.end_overdue(self.clock())
            lane.notice(self.clock())
            if not (lane.needs_step(self.clock()) or (self.draining and lane.held)):
                continue
            try:
                calls = self._step(lane)
            except Exception as exc:
                failure = exc  # the other backends have nothing to do with it
                continue
            for call in calls:
                self._start(call)
        self._settle()
        self._renew_leases()
        if failure is not None:
            raise failure

    def _step(self, lane: Lane) -> list[Call]:
        """Make one step for one backend; return the calls to be started."""
        turn, repeated, lane.uncertain = Turn(), lane.uncertain, True
        if self.limited:
            asking.ask_ahead(lane, self.id, self.clock, self.executor.run)
        with transaction.atomic(using=alias()):
            if self.limited:
                asking.ask(lane, self.id, self.clock, self.executor.run)
            else:
                lane.permit, lane.permit_until = Permit(slots=1), float("inf")
            self._complete(lane, turn)
            if repeated:
                queue.release_doubtful(lane.doubtful, turn.held.values())
            if not self.draining:
                self._claim(lane, turn)
                turn.calls = list(lane.choose(turn, self.clock()))
            self._mark(lane, turn)
            self._end(lane, turn)
        lane.uncertain, lane.doubtful = False, []
        self._remember(lane, turn)
        return turn.calls

    def _complete(self, lane: Lane, turn: Turn) -> None:
        """Write down how calls have ended; notice what recovery has taken away."""
        tokens = {batch.id: batch.token for batch in lane.held.values()}
        still = engine().hold(tokens) if tokens else {}
        turn.lost = tokens.keys() - still.keys()
        turn.held = {pk: lane.held[pk].copy(paused=paused) for pk, paused in still.items()}
        is_open = lane.permit.blocked or lane.permit.trial
        for call in lane.ended:
            batch = turn.held.get(call.batch_id)
            answered: SendResponse = call.response  # type: ignore[assignment]  # it has ended
            done = completion.decide(
                call,
                answered,
                is_open=is_open,
                max_retries=lane.options.max_retries,
                divides=batch is not None and batch.refused < MOST_REFUSED,
                at_once=not self.limited,
            )
            turn.completions.append(done)
            if batch is not None:
                batch.complete(done)
        if turn.completions:
            turn.unsettled = completion.write(turn.completions, still.keys())

    def _claim(self, lane: Lane, turn: Turn) -> None:
        """Claim the next batches, if there is room for more calls than are held."""
        most = lane.claims_wanted(turn.waiting)
        # another sender may have given back a reply, for want of slots
        replies = not most and lane.fresh and bool(turn.held) and not lane.is_blocked
        if not (most or replies):
            return
        token = uuid.uuid4()
        lane.doubtful.append(token)
        trial = lane.permit.trial  # each is made with another recipient
        batches = engine().claim_batches(
            lane.backend.pk, token, most or MOST_CLAIMS, lane.only, replies=replies, trial=trial
        )
        turn.drained = len(batches) < most
        turn.claimed = queue.hold(batches, (batch.message for batch in turn.held.values()))
        turn.held |= {batch.id: batch for batch in turn.claimed}

    def _mark(self, lane: Lane, turn: Turn) -> None:
        """Move what is called now to P; leave out what was cancelled or delivered meanwhile."""
        ids = [row.id for call in turn.calls for row in call.rows]
        moved = engine().mark_processing(ids) if ids else set()
        turn.left_out = len(ids) - len(moved)
        for call in turn.calls:
            rows = [row for row in call.rows if row.id in moved]
            call.rows = [row._replace(attempts=row.attempts + 1) for row in rows]
            batch = turn.held[call.batch_id]
            batch.in_flight |= {row.id for row in rows}
            batch.whole = batch.whole and len(rows) == len(call.rows)
        turn.calls = [call for call in turn.calls if call.rows]
        if turn.calls and lane.permit.trial:
            permits.begin_trial(lane.backend)

    def _end(self, lane: Lane, turn: Turn) -> None:
        """End batches that are over, and give back those that are not to be called for now."""
        idle = self.draining or lane.is_blocked
        for batch in turn.held.values():
            if not batch.in_flight and (idle or not batch.waiting):
                turn.gone.append(batch)
        if turn.gone:
            turn.back_in = queue.end(turn.gone, at_once=not self.limited)

    def _remember(self, lane: Lane, turn: Turn) -> None:
        """Have the memory follow what was committed; note what is to be done after it."""
        moment = self.clock()
        lane.remember(turn, moment)
        if self.completed is not None:
            for done in turn.completions:
                self.completed(done)
        self._after.extend(settling.jobs(turn))
        # after that, so that receivers see what has become of the message
        self._after.append(lambda: completion.announce(turn.completions, self.executor))
        if any(done.response.external_ids for done in turn.completions):
            self._after.append(lambda: completion.follow_early_reports(turn.completions))
        self._ring_for(lane, turn, moment)

    def _ring_for(self, lane: Lane, turn: Turn, moment: float) -> None:
        """Tell other processes, if more waits than this one can take."""
        ring, backend = self.ring, lane.backend
        if turn.drained:
            lane.ring_at, lane.rings = float("-inf"), 0
        # with slots left over it claims the rest itself in the next step
        is_full = lane.free_calls() <= 0 or turn.waiting or turn.rows >= MOST_ROWS
        is_due = turn.claimed and is_full and moment >= lane.ring_at
        if ring is None or turn.drained or not is_due:
            return
        lane.ring_at = moment + min(RING_AFTER * 2**lane.rings, RING_EVERY)
        lane.rings += 1
        self.executor.run(lambda: ring(backend))

    # Calls

    def _start(self, call: Call) -> None:
        try:
            self.executor.start(call, self._call_ended)
        except RuntimeError:
            error = RetryLater("no thread can be started")
            self._take_response(call, response.read(call.rows, None, error))

    def _call_ended(self, call: Call, answered: SendResponse) -> None:
        """Take the response of a call; from any thread."""
        self._inbox.put(lambda: self._take_response(call, answered))

    def _take_response(self, call: Call, answered: SendResponse) -> None:
        lane = self.lanes[call.backend_id]
        if call.response is not None:
            # it was over already; its thread is free again
            lane.abandoned -= 1
            logger.warning("call_ended_late message=%s", call.message.pk)
            return
        lane.end(call, answered, self.clock())

    # Housekeeping

    def _wake(self, backend: Backend) -> None:
        self._stir(backend).more = True

    def _take(self, backend: Backend, batch: HeldBatch) -> None:
        self._stir(backend).held[batch.id] = batch

    def _stir(self, backend: Backend) -> Lane:
        """Return the lane of a backend for which there is something new to do."""
        lane = self.lanes.get(backend.pk)
        if lane is None:
            lane = self.lanes[backend.pk] = Lane(backend)
        lane.stalled = False
        if lane.permit.blocked:
            lane.permit_until = float("-inf")  # it may have been resumed
        return lane

    def _settle(self) -> None:
        """Do what follows a commit."""
        while self._after:
            try:
                self._after[0]()
            except Exception as exc:
                if is_transient(exc):
                    raise
                # recovery looks at the message again
                logger.error("settling_failed error=%s", type(exc).__name__)
                logger.debug("settling_failed", exc_info=True)
            self._after.popleft()

    def _renew_leases(self) -> None:
        """Renew the leases of all that is held, in one statement."""
        moment = self.clock()
        if moment - self._renewed < conf.visibility_timeout() / 3:
            return
        lanes = self.lanes.values()
        tokens = {batch.id: batch.token for lane in lanes for batch in lane.held.values()}
        if tokens:
            engine().renew(tokens)
        self._renewed = moment
