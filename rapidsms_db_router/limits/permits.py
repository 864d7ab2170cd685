"""What a sender may do with a backend for the next quarter of a second: one locked look."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from django.db import transaction
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import circuit
from rapidsms_db_router.limits.circuit import Circuit, Outage
from rapidsms_db_router.limits.overrides import Limits, limits_of
from rapidsms_db_router.limits.rate import HORIZON, Granted, Share, grant
from rapidsms_db_router.limits.slots import LEASE, lease_slots
from rapidsms_db_router.models import BackendState, Batch

#: How long a permit counts, in seconds: so soon a pause takes effect everywhere.
VALID = 0.25
#: Slots are leased again after this many seconds, though nothing may be called.
RENEWAL = LEASE.total_seconds() / 2


@dataclass(frozen=True)
class Demand:
    """What a sender could do with a backend now without any limit."""

    #: Calls it could have in flight.
    calls: int
    #: Segments of the messages it has to send, and of the next call.
    segments: int
    next_segments: int
    #: Calls it has in flight, and threads that did not keep their deadline.
    in_flight: int
    abandoned: int
    #: SMS segments a second that it has sent of late.
    pace: float = 0.0
    #: Segments that it is granted already and has not sent.
    granted: int = 0
    #: How long a call takes, in seconds; 0 if that is not known.
    took: float = 0.0


@dataclass(frozen=True)
class Permit:
    """What it may do."""

    #: Calls it may have in flight at once.
    slots: int = 0
    #: Whether the one call it may make is the trial of a half-open circuit.
    trial: bool = False
    #: Why it may make none, if a pause or the circuit is the reason.
    blocked: bool = False
    #: Whether a success has to be written down.
    failing: bool = False
    #: What is granted of the rate, if anything is.
    grant: Granted | None = None
    #: In how many seconds to ask again, if sooner or later than usual.
    ask_in: float = VALID
    #: In how many seconds more of the rate may be asked for.
    grant_in: float = 0.0
    #: The limits that count, once they are known.
    limits: Limits | None = None


def ask(backend: Backend, sender: uuid.UUID, demand: Demand) -> Permit:
    """Return what a sender may do; the caller has begun a transaction.

    :param sender: the sender.
    :param demand: what it could do.
    """
    state = BackendState.objects.lock(backend.pk)
    moment, limits = now(), limits_of(state, backend.name)
    is_paused = state.is_paused(moment)
    slots, part = lease_slots(
        backend.pk,
        sender,
        slots=limits.concurrency,
        wanted=0 if is_paused else demand.calls,
        in_flight=demand.in_flight,
        abandoned=demand.abandoned,
        pace=demand.pace,
        moment=moment,
    )
    # calls in flight, and threads that were left behind, count for as long as there are any
    longest = RENEWAL if demand.in_flight or demand.abandoned else float("inf")
    if is_paused:
        end = state.paused_until
        seconds = longest if end is None else (end - moment).total_seconds()
        return Permit(blocked=True, ask_in=min(seconds, longest), limits=limits)
    found = circuit.state_of(state, moment)
    if found is Circuit.OPEN:
        seconds = (state.open_until - moment).total_seconds()  # type: ignore[operator]
        return Permit(blocked=True, failing=True, ask_in=min(seconds, longest), limits=limits)
    granted, wait, rate, first = None, 0.0, limits.rate, demand.next_segments
    if rate is not None and slots and first:
        most = slots * first / demand.took if demand.took else float("inf")
        share = Share(part, most, demand.granted)
        granted = grant(state.granted_until, moment, rate, demand.segments, first, share)
        if granted is not None:
            seconds = granted.ahead + granted.segments / rate
            state.granted_until = moment + datetime.timedelta(seconds=seconds)
            state.save(update_fields=("granted_until",))
        elif state.granted_until is not None:
            wait = (state.granted_until - moment).total_seconds() - HORIZON
    trial = found is Circuit.HALF_OPEN
    return Permit(
        slots=min(slots, 1) if trial else slots,
        trial=trial,
        failing=bool(state.failures or state.failed_ids or trial),
        grant=granted,
        ask_in=VALID if slots and not trial else 0.05,
        grant_in=max(wait, 0.01),
        limits=limits,
    )


def begin_trial(backend: Backend) -> None:
    """Have the trial of a half-open circuit be the sender's that has just asked."""
    state = BackendState.objects.lock(backend.pk)
    circuit.begin_trial(state, backend.name, now())
    state.save(update_fields=("open_until",))


def record(
    backend: Backend,
    outages: Iterable[tuple[Outage | None, bool]],
    run: Callable[[Callable[[], None]], None],
) -> bool:
    """Tell a backend's circuit breaker how calls have ended.

    :param outages: of each call the outage that it met, if it met one, and whether it was a trial.
    :param run: runs what tells others that the circuit has opened or closed, after the commit.
    :returns: whether that changed anything.
    """
    state = BackendState.objects.lock(backend.pk)
    changed, since = False, state.opened_at
    for outage, trial in outages:
        if outage is None:
            opened = state.open_until is not None
            changed |= circuit.record_response(state)
            if opened:
                Batch.objects.make_ready(backend.pk)
        else:
            circuit.record_outage(state, outage, now(), trial=trial)
            changed = True
    if changed:
        state.save()
    job: Callable[[], None] | None = None
    if since is None and state.opened_at is not None:
        job = partial(circuit.tell_opened, backend.name, state)
    elif since is not None and state.opened_at is None:
        job = partial(circuit.tell_closed, backend.name, since, now())
    if job is not None:
        transaction.on_commit(partial(run, job), using=alias(), robust=True)
    return changed
