"""The circuit breaker of a backend.

========== ===================================== ==============================================
state      means                                 ends
========== ===================================== ==============================================
closed     the backend is called                 open, after :data:`FAILURES` outages in a row,
                                                 or at once if the gateway asks for time
open       no call is made until a moment        half-open at that moment
half-open  one call is made, as a trial          closed if the gateway responds to it; else
                                                 open again, for twice as long
========== ===================================== ==============================================
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from enum import Enum

from rapidsms_db_router import backoff, conf, signals
from rapidsms_db_router.models import BackendState

logger = logging.getLogger(__name__)

#: After this many outages in a row a circuit opens.
FAILURES = 3
#: A circuit that a gateway has asked for stays open for at least this long, in seconds.
SHORTEST_OPEN = 1.0
#: A trial holds the circuit for this many seconds longer than its call may take.
TRIAL_MARGIN = 5.0
#: The characters of a reason that are kept.
LONGEST_REASON = 200


class Circuit(Enum):
    """The states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Outage:
    """One call that failed by the gateway's fault, not by a recipient's."""

    #: Why, in one line.
    reason: str
    #: For how long the gateway wants no calls, in seconds, if it said so.
    retry_after: float | None = None
    #: A transmission of the call, if the failure only counts when it meets several recipients.
    suspect: int | None = None


def state_of(state: BackendState | None, moment: datetime.datetime) -> Circuit:
    """Return the state of a backend's circuit."""
    if state is None or state.open_until is None:
        return Circuit.CLOSED
    return Circuit.OPEN if state.open_until > moment else Circuit.HALF_OPEN


def tell_opened(name: str, state: BackendState) -> None:
    """Tell that a backend's circuit has opened."""
    signals.tell(
        signals.circuit_opened,
        sender=BackendState,
        backend_name=name,
        reason=state.reason,
        since=state.opened_at,
        until=state.open_until,
    )


def tell_closed(name: str, since: datetime.datetime, until: datetime.datetime) -> None:
    """Tell that it has closed.

    :param since: when it was opened.
    :param until: when it was closed.
    """
    told = {"backend_name": name, "since": since, "until": until}
    signals.tell(signals.circuit_closed, sender=BackendState, **told)


def begin_trial(state: BackendState, name: str, moment: datetime.datetime) -> None:
    """Have one sender make the trial of a half-open circuit: for the others it stays open."""
    seconds = conf.timeout(name) + TRIAL_MARGIN
    state.open_until = moment + datetime.timedelta(seconds=seconds)


def record_outage(
    state: BackendState, outage: Outage, moment: datetime.datetime, *, trial: bool
) -> None:
    """Count an outage; open the circuit, or keep it open, if it is enough.

    :param trial: whether the call was the trial of a half-open circuit.
    """
    if state.open_until is not None and not trial:
        return  # a call that was in flight when the circuit opened
    if outage.suspect is not None and not trial:
        if outage.suspect in state.failed_ids:
            return
        state.failed_ids = [*state.failed_ids, outage.suspect]
    state.failures += 1
    if state.failures < FAILURES and outage.retry_after is None and not trial:
        return
    tries = max(state.failures - FAILURES, 0) + 1
    seconds = max(backoff.delay(tries, conf.retry_backoff()), SHORTEST_OPEN)
    if outage.retry_after is not None:
        # no wish of a gateway shortens the wait
        seconds = max(outage.retry_after, seconds if trial else SHORTEST_OPEN)
    state.failures = max(state.failures, FAILURES)
    state.open_until = moment + datetime.timedelta(seconds=seconds)
    state.opened_at = state.opened_at or moment
    state.reason = outage.reason[:LONGEST_REASON]
    logger.warning("circuit_opened backend=%s seconds=%.0f", state.backend_id, seconds)


def record_response(state: BackendState) -> bool:
    """Close the circuit: the gateway has responded; return whether anything changed."""
    if not (state.failures or state.failed_ids or state.open_until):
        return False
    if state.open_until is not None:
        logger.info("circuit_closed backend=%s", state.backend_id)
    state.failures, state.failed_ids = 0, []
    state.open_until, state.opened_at, state.reason = None, None, ""
    return True
