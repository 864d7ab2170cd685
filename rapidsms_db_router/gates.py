"""When a backend may be called: limits, gateways that are out of order, operators who pause them.

All workers decide together: whoever does locks the backend's :class:`BackendState` first. What may
not be sent now waits in the database, not in a worker: either for the end of a batch in flight,
which gives others their turn, or for a task that is put off until then, of which there is one at
a time. A backend without limits and without trouble has no such row, and nobody asks.
"""

from __future__ import annotations

import datetime
import logging
import uuid
from typing import NamedTuple

from django.db import transaction
from rapidsms.models import Backend

from rapidsms_db_router import conf, retries, segments
from rapidsms_db_router.answers import Answer
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import alias
from rapidsms_db_router.models import BackendState, Batch
from rapidsms_db_router.querysets import BatchQuerySet

logger = logging.getLogger(__name__)

#: After so many calls that failed one after the other, each of another batch, a gateway is left
#: alone.
FAILURES = 3
#: Once it takes something again, each batch that ends gives so many others their turn, while no
#: more than so many wait for a worker.
TURNS, MOST_TOLD = 2, 8
#: A task that comes so late still has the place it should have had: else a rate would not be
#: kept. One that comes so early is in time.
CATCH_UP = datetime.timedelta(seconds=2)
EARLY = datetime.timedelta(milliseconds=50)
#: So far ahead tasks are put off for what a rate allows: brokers and workers take their time.
AHEAD = datetime.timedelta(seconds=1)


class Later(NamedTuple):
    """A batch of which a worker is to be told in so many seconds."""

    batch: Batch
    seconds: float


def state_of(backend: Backend) -> BackendState | None:
    """Return what is known of a backend, as of when it was read."""
    try:
        state: BackendState = backend.router_state
    except BackendState.DoesNotExist:
        return None
    return state


def is_free(backend: Backend) -> bool:
    """Return whether a backend has neither limits nor trouble, so that nobody has to ask."""
    state = state_of(backend)
    return not conf.is_limited(backend.name) and (state is None or not state.hinders)


def is_well(backend: Backend) -> bool:
    """Return whether a backend is free, and its last call did not fail."""
    state = state_of(backend)
    return is_free(backend) and (state is None or not state.failures)


def batch_size(backend_name: str, text: str) -> int:
    """Return the most transmissions of a text that one call of a backend may carry.

    Where there is a rate, no more than it allows in a second.
    """
    rate, size = conf.rate(backend_name), conf.batch_size(backend_name)
    return size if rate is None else min(size, max(1, int(rate / segments.count(text))))


# Before a call


def take(batch: Batch, claim: uuid.UUID) -> tuple[bool, list[Later]]:
    """Take a batch, unless another has, or its backend is not to be called now.

    :returns: whether it was taken, and of which batches workers are to be told later.
    """
    if is_free(batch.backend):
        return Batch.objects.take(batch.pk, claim), []
    with transaction.atomic(using=alias()):
        return _Gate(batch.backend).take(batch, claim)


class _Gate:
    """Decides about one backend, inside a transaction.

    :param backend: whose state it locks.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.state = BackendState.objects.lock(backend.pk)
        self.moment = now()
        self.rate = conf.rate(backend.name)
        self.batches: BatchQuerySet = Batch.objects.filter(backend=backend.pk)
        #: Those whose task is on its way.
        self.told = self.batches.told().filter(errored=False)

    @property
    def closed(self) -> bool:
        """Whether the gateway is left alone."""
        until = self.state.closed_until
        return until is not None and until > self.moment + EARLY

    @property
    def trying(self) -> bool:
        """Whether one batch at a time finds out if the gateway works again."""
        return self.state.failures >= FAILURES

    def in_flight(self) -> int:
        """Return how many batches are being sent."""
        return self.batches.filter(claim__isnull=False).count()

    def take(self, batch: Batch, claim: uuid.UUID) -> tuple[bool, list[Later]]:
        """Take a batch, or have it wait."""
        if self.state.paused:
            self.batches.wait(batch.pk)
            return False, []
        if self.closed:
            return False, self.put_off(batch, self.state.closed_until)
        most = 1 if self.trying else conf.concurrency(self.backend.name)
        if most is not None and self.in_flight() >= most:
            self.batches.wait(batch.pk)  # one of those in flight will give it its turn
            return False, []
        if self.rate is None:
            return self.batches.take(batch.pk, claim), []
        start = max(self.state.free_at or self.moment, self.moment - CATCH_UP)
        if start > self.moment + EARLY:
            return False, self.put_off(batch, start)
        if not self.batches.take(batch.pk, claim):
            return False, []
        self.state.free_at = start + self.cost(batch)
        self.state.save(update_fields=("free_at",))
        return True, self.give_turns()

    def cost(self, batch: Batch) -> datetime.timedelta:
        """Return for how long the backend's rate allows nothing else beside a batch."""
        count = len(batch.transmission_ids) * segments.count(batch.message.text)
        return datetime.timedelta(seconds=count / (self.rate or 1))

    def put_off(self, batch: Batch, until: datetime.datetime | None) -> list[Later]:
        """Have a batch wait for its turn, or come back itself if no other will."""
        if self.told.exclude(pk=batch.pk).exists():
            self.batches.wait(batch.pk)
            return []
        moment = max(until or self.moment, self.moment)
        if not self.batches.come_at(batch.pk, moment):
            return []
        return [Later(batch, max(0.0, (moment - self.moment).total_seconds()))]

    def give_turns(self) -> list[Later]:
        """Give those in line their turn, as many as may have it."""
        if self.state.paused:
            return []
        if self.closed or self.trying:
            # one at a time, and not before it may
            if self.told.exists() or (not self.closed and self.in_flight()):
                return []
            following = self.batches.line().first()
            return [] if following is None else self.put_off(following, self.state.closed_until)
        if self.rate is not None:
            return self.give_dated_turns()
        limit = conf.concurrency(self.backend.name)
        if limit is None:
            room = MOST_TOLD - self.told[:MOST_TOLD].count()
            given = self.batches.line().give_turns(min(TURNS, room))
            if room and not given:
                self.state.line = False
                self.state.save(update_fields=("line",))
        else:
            given = self.batches.line().give_turns(limit - self.batches.under_way())
        return [Later(batch, 0.0) for batch in given]

    def give_dated_turns(self) -> list[Later]:
        """Give those in line their turn when the rate allows it, one after the other."""
        dates = (self.state.told_until, self.state.free_at, self.moment)
        moment = max(date for date in dates if date)
        given: list[Later] = []
        while moment < self.moment + AHEAD or not (given or self.told.exists()):
            batch = self.batches.line().first()
            if batch is None:
                break
            if self.batches.come_at(batch.pk, moment):
                given.append(Later(batch, max(0.0, (moment - self.moment).total_seconds())))
                moment += self.cost(batch)
        if given:
            self.state.told_until = moment
            self.state.save(update_fields=("told_until",))
        return given

    def failed(self, batch: Batch, wish: float | None) -> None:
        """Write down that the gateway took nothing of a batch.

        :param wish: for how long it wants to be left alone, in seconds.
        """
        state, until = self.state, self.state.closed_until
        if not self.closed:  # else it is one of those that were in flight when it was closed
            if self.trying or batch.pk != state.failed_batch:
                state.failures += 1
            state.failed_batch = batch.pk
            if self.trying:
                tries = state.failures - FAILURES + 1
                wait = retries.delay(tries, conf.retry_backoff())
                until = self.moment + datetime.timedelta(seconds=wait)
        if wish is not None:
            wished = self.moment + datetime.timedelta(seconds=wish)
            until = max(until or wished, wished)
        if until is not None and until != state.closed_until:
            seconds = (until - self.moment).total_seconds()
            logger.warning("backend_closed backend=%s seconds=%.0f", self.backend.pk, seconds)
        state.closed_until = until
        state.save(update_fields=("failures", "failed_batch", "closed_until"))

    def works(self) -> None:
        """Write down that the gateway has answered: what waits has its turn soon."""
        if self.state.failures >= FAILURES:
            logger.info("backend_opened backend=%s", self.backend.pk)
        if self.state.failures or self.state.closed_until:
            # nobody was kept waiting by failures that were too few
            self.state.line = self.state.line or self.state.closed_until is not None
            self.state.failures, self.state.failed_batch = 0, None
            self.state.closed_until = None
            self.state.save(update_fields=("failures", "failed_batch", "closed_until", "line"))

    def end_of_line(self) -> int:
        """Return the number of a batch before which all others have their turn."""
        last = self.batches.line().order_by("-number").values_list("number", flat=True).first()
        return (last or 0) + 1


# After a call


class Verdict:
    """What the end of a call means for its backend, inside the transaction that writes it down.

    :param batch: that was sent.
    :param answer: what became of it; an empty one if there was nothing to be sent.
    """

    def __init__(self, batch: Batch, answer: Answer) -> None:
        self._gate: _Gate | None = None
        #: Whether the try is not to count: it was known that the gateway might not work.
        self.put_back = False
        #: From when on the gateway may be called again, if it is left alone.
        self.closed_until: datetime.datetime | None = None
        #: The place in line of a batch that is put back.
        self.number = batch.number
        trouble = answer.out_of_order
        if is_well(batch.backend) and not trouble:
            return
        self._gate = gate = _Gate(batch.backend)
        if trouble:
            wish = answer.retry_after
            self.put_back = gate.trying or wish is not None
            gate.failed(batch, wish)
            self.closed_until = gate.state.closed_until
            if gate.trying:
                # or it might keep from trying those that the gateway would take
                self.number = gate.end_of_line()
        elif answer.sent or answer.failed:
            gate.works()

    @property
    def is_free(self) -> bool:
        """Whether each message goes on by itself, since the backend has no limits and works."""
        gate = self._gate
        return gate is None or not (gate.state.hinders or conf.is_limited(gate.backend.name))

    def give_turns(self) -> list[Later]:
        """Give those in line their turn, once the batch is let go of."""
        return [] if self._gate is None or self.is_free else self._gate.give_turns()


# On request


def describe(backend: Backend) -> str:
    """Return in words whether a backend is called."""
    state = state_of(backend)
    if state is not None and state.paused:
        return "paused"
    until = state and state.closed_until
    if until and until > now():
        return f"left alone until {until:%Y-%m-%d %H:%M:%S %Z}".rstrip()
    if state is not None and state.failures >= FAILURES:
        return "being tried"
    return "called"


def give_turns(backend: Backend) -> list[Later]:
    """Give those in line for a backend their turn, if it has a line; return whom."""
    with transaction.atomic(using=alias()):
        return _Gate(backend).give_turns()


def pause(backend: Backend) -> None:
    """Have nothing sent to a backend any more, but what is being sent."""
    with transaction.atomic(using=alias()):
        state = BackendState.objects.lock(backend.pk)
        state.paused = True
        state.save(update_fields=("paused",))
    logger.info("backend_paused backend=%s", backend.pk)


def resume(backend: Backend) -> list[Later]:
    """Have a backend called again, also one that is left alone because it failed.

    :returns: the batches of which workers are to be told.
    """
    with transaction.atomic(using=alias()):
        gate = _Gate(backend)
        gate.state.paused, gate.state.line = False, True
        gate.state.failures, gate.state.failed_batch, gate.state.closed_until = 0, None, None
        gate.state.save()
        # the one that was put off needs not wait any longer
        gate.told.filter(called__gt=gate.moment).update(due=None, calls=0)
        given = gate.give_turns()
    logger.info("backend_resumed backend=%s", backend.pk)
    return given
