"""What a lane may do for the next quarter of a second."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.db import transaction

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import permits
from rapidsms_db_router.limits.permits import Permit
from rapidsms_db_router.limits.slots import release_slots
from rapidsms_db_router.outbound.lane import Lane

Clock = Callable[[], float]
Run = Callable[[Callable[[], None]], None]

#: A sender that gets no slot for this long gives back what it holds, in seconds: senders that have
#: one claim replies before all else.
LONGEST_STARVING = 1.0


def ask_ahead(lane: Lane, sender: uuid.UUID, clock: Clock, run: Run) -> None:
    """Renew a lane's permit in a transaction of its own, before that of the step.

    Other senders, who wait for the state of the backend, wait no longer than that. What the circuit
    breaker is told, and a trial, belong to the step.
    """
    lane.fresh = False
    if not lane.needs_permit(clock()) or lane.is_troubled:
        return
    with transaction.atomic(using=alias()):
        ask(lane, sender, clock, run)
    lane.fresh = lane.fresh and not lane.permit.trial


def ask(lane: Lane, sender: uuid.UUID, clock: Clock, run: Run) -> None:
    """Renew a lane's permit, if it is too old or calls have failed; the circuit breaker is told.

    Not if that was done ahead of the step.

    Belongs into the transaction of a step, before all else: the backend's state is locked first.

    :param sender: whose lane it is.
    :param clock: the sender's.
    :param run: runs what tells others of the circuit, after the commit.
    """
    if lane.fresh:
        return
    moment = clock()
    answers = [(call.response, call.trial) for call in lane.ended]
    outages = [(each.outage, trial) for each, trial in answers if each and each.is_called]
    failing = outages and (lane.permit.failing or any(outage for outage, _ in outages))
    changed = permits.record(lane.backend, outages, run) if failing else False
    if changed and any(outage is None for outage, _ in outages):
        lane.more = True  # what waited for the gateway is claimable
    if not (changed or lane.needs_permit(moment)):
        return
    if lane.is_idle:
        release_slots(lane.backend.pk, sender)
        lane.leased, lane.permit, lane.permit_until = False, Permit(), float("-inf")
        return
    demand = lane.demand(moment)
    permit = permits.ask(lane.backend, sender, demand)
    moment = clock()  # a grant counts from when the state was locked, for which others may have it
    lane.asked = demand.calls
    lane.permit, lane.permit_until = permit, moment + permit.ask_in
    lane.grant_from = moment + permit.grant_in
    lane.read_options()
    if permit.grant is not None:
        lane.grants.take(permit.grant, moment)
    if permit.slots or permit.blocked or lane.calls:
        lane.starving_since = None
    elif lane.starving_since is None:
        lane.starving_since = moment
    since = lane.starving_since
    lane.starved = since is not None and moment - since > LONGEST_STARVING
    lane.leased = lane.fresh = True
