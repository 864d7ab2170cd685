"""What a lane may do for the next quarter of a second."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from rapidsms_db_router.limits import permits
from rapidsms_db_router.limits.permits import Permit
from rapidsms_db_router.limits.rate import Grant
from rapidsms_db_router.limits.slots import release_slots
from rapidsms_db_router.outbound.lane import Lane

#: A sender that gets no slot for this long gives back what it holds, in seconds: senders that have
#: one claim replies before all else.
LONGEST_STARVING = 1.0


def ask(
    lane: Lane, sender: uuid.UUID, moment: float, run: Callable[[Callable[[], None]], None]
) -> None:
    """Renew a lane's permit, if it is too old or calls have failed; the circuit breaker is told.

    Belongs into the transaction of a step, before all else: the backend's state is locked first.

    :param sender: whose lane it is.
    :param moment: now, by the sender's clock.
    :param run: runs what tells others of the circuit, after the commit.
    """
    answers = [(call.response, call.trial) for call in lane.ended]
    outages = [(each.outage, trial) for each, trial in answers if each and each.is_called]
    failing = outages and (lane.permit.failing or any(outage for outage, _ in outages))
    changed = permits.record(lane.backend, outages, run) if failing else False
    if changed and any(outage is None for outage, _ in outages):
        lane.more = True  # what waited for the gateway is claimable
    if moment < lane.permit_until and not (changed or lane.needs_slots):
        return
    if lane.is_idle:
        release_slots(lane.backend.pk, sender)
        lane.leased, lane.permit, lane.permit_until = False, Permit(), float("-inf")
        return
    demand = lane.demand(moment)
    permit = permits.ask(lane.backend, sender, demand, wants_grant=lane.wants_grant(moment))
    lane.asked = demand.calls
    lane.permit, lane.permit_until = permit, moment + permit.ask_in
    lane.read_options()
    if permit.grant is not None:
        start, end = (moment + seconds for seconds in permit.grant)
        grant = Grant(start, end, lane.options.rate or 1.0)
        if not (lane.grants and lane.grants[-1].extend(grant)):
            lane.grants.append(grant)
    if permit.slots or permit.blocked or lane.calls:
        lane.starving_since = None
    elif lane.starving_since is None:
        lane.starving_since = moment
    since = lane.starving_since
    lane.starved = since is not None and moment - since > LONGEST_STARVING
    lane.leased = lane.fresh = True
