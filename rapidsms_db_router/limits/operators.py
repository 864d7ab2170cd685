"""What operators see of a backend, and what they decide: pauses and limits."""

from __future__ import annotations

import datetime
import logging
from functools import partial
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.acting import acted
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import circuit
from rapidsms_db_router.limits.circuit import Circuit
from rapidsms_db_router.models import BackendState, Batch

logger = logging.getLogger(__name__)

#: The columns of a pause, and their widths.
PAUSE = ("paused", "paused_at", "paused_until", "paused_by", "pause_reason")
LONGEST_NAME, LONGEST_REASON = 150, 200
#: The limits that can be set, and the least that each can be.
LIMITS = {"rate": 1, "concurrency": 1, "max_retries": 0}
#: The most that a limit can be.
MOST = 10_000


def state_of(backend: Backend) -> BackendState | None:
    """Return what is known of a backend, as of when it was read."""
    try:
        state: BackendState = backend.router_state
    except BackendState.DoesNotExist:
        return None
    return state


def works(backend: Backend) -> bool:
    """Return whether a backend is called: it is neither paused nor out of order."""
    state, moment = state_of(backend), now()
    is_paused = state is not None and state.is_paused(moment)
    return not is_paused and circuit.state_of(state, moment) is Circuit.CLOSED


def describe(backend: Backend) -> str:
    """Return in words whether a backend is called, and why not."""
    state, moment = state_of(backend), now()
    if state is not None and state.is_paused(moment):
        return _describe_pause(state)
    found = circuit.state_of(state, moment)
    if found is Circuit.CLOSED or state is None:
        return _("working")
    words = {
        "since": _date(state.opened_at),
        "reason": state.reason,
        "until": _date(state.open_until),
    }
    if found is Circuit.OPEN:
        return _("out of order since %(since)s (%(reason)s), tried again at %(until)s") % words
    return _("out of order since %(since)s (%(reason)s), being tried again") % words


def _describe_pause(state: BackendState) -> str:
    words = [_("paused")]
    if state.paused_by:
        words.append(_("by %(name)s") % {"name": state.paused_by})
    if state.paused_at:
        words.append(_("since %(time)s") % {"time": _date(state.paused_at)})
    if state.paused_until:
        words.append(_("until %(time)s") % {"time": _date(state.paused_until)})
    if state.pause_reason:
        words.append(f"({state.pause_reason})")
    return " ".join(words)


def _date(moment: datetime.datetime | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def pause(
    backend: Backend,
    *,
    by: str = "",
    reason: str = "",
    until: datetime.datetime | None = None,
) -> None:
    """Have no further call made to a backend: within a second, and calls in flight end.

    :param by: the operator's name, as it is shown.
    :param reason: why, as it is shown.
    :param until: when the backend is called again; ``None``: once it is resumed.
    :raises ValueError: if ``until`` is not later than now.
    """
    moment = now()
    if until is not None and until <= moment:
        raise ValueError(f"A pause until {until} is over already: it is {moment}.")
    with transaction.atomic(using=alias()):
        state = BackendState.objects.lock(backend.pk)
        before = _pause_of(state, moment)
        state.paused, state.paused_at, state.paused_until = True, moment, until
        state.paused_by, state.pause_reason = by[:LONGEST_NAME], reason[:LONGEST_REASON]
        state.save(update_fields=PAUSE)
        acted("pause", by, backend, before=before, after=_pause_of(state, moment), reason=reason)
    logger.info("backend_paused backend=%s", backend.pk)


def resume(backend: Backend, *, by: str = "") -> None:
    """Have a backend called again, also one whose circuit is open; the caller rings its bell.

    :param by: the operator's name.
    """
    with transaction.atomic(using=alias()):
        state, moment = BackendState.objects.lock(backend.pk), now()
        before, since = _pause_of(state, moment), state.opened_at
        state.paused, state.paused_at, state.paused_until = False, None, None
        state.paused_by = state.pause_reason = ""
        circuit.record_response(state)
        state.save()
        # what failed by the gateway's fault needs not wait any longer
        Batch.objects.make_ready(backend.pk)
        acted("resume", by, backend, before=before, after=_pause_of(state, moment))
        if since is not None:
            told = partial(circuit.tell_closed, backend.name, since, moment)
            transaction.on_commit(told, using=alias(), robust=True)
    logger.info("backend_resumed backend=%s", backend.pk)


def _pause_of(state: BackendState, moment: datetime.datetime) -> dict[str, Any]:
    """Return what a pause, or its end, changes."""
    is_paused = state.is_paused(moment)
    return {
        "paused": is_paused,
        "until": state.paused_until if is_paused else None,
        "out_of_order": state.open_until is not None,
    }


def overrides(state: BackendState | None) -> dict[str, Any]:
    """Return the limits that operators have set in place of a backend's options, by name."""
    found = {name: getattr(state, name, None) for name in LIMITS}
    return {name: value for name, value in found.items() if value not in (None, "")}


def set_limits(
    backend: Backend, *, by: str = "", **limits: str | int | None
) -> dict[str, tuple[Any, Any]]:
    """Set limits of a backend in place of its options, or give them back; within a second.

    :param by: the operator's name.
    :param limits: ``rate`` (such as ``"300/s"``), ``concurrency`` and ``max_retries``; ``None``:
        the backend's option counts again.
    :returns: of each limit that has changed what was set before, and what is set now.
    :raises ValueError: for another name, or for a value of another kind; nothing is changed.
    """
    wanted = {name: _checked(name, value) for name, value in limits.items()}
    with transaction.atomic(using=alias()):
        state = BackendState.objects.lock(backend.pk)
        before = {name: getattr(state, name) for name in wanted}
        for name, value in wanted.items():
            setattr(state, name, value)
        state.save(update_fields=list(wanted))
        changed = {
            name: (before[name], wanted[name]) for name in wanted if before[name] != wanted[name]
        }
        if changed:
            was, is_now = ({name: pair[n] for name, pair in changed.items()} for n in (0, 1))
            acted("set_limits", by, backend, before=was, after=is_now)
    logger.info("limits_set backend=%s limits=%s", backend.pk, ",".join(sorted(changed)))
    return changed


def _checked(name: str, value: str | int | None) -> Any:
    if name not in LIMITS:
        raise ValueError(f"There is no limit {name!r}; there are: {', '.join(LIMITS)}.")
    if name == "rate":
        if value is not None and conf.parse_rate(value) is None:
            raise ValueError(
                f"rate is {value!r}; say how many segments, such as '300/s' or '20/m'."
            )
        return value or ""
    if value is None:
        return None
    least = LIMITS[name]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
        raise ValueError(f"{name} is {value!r}; it is a whole number from {least} to {MOST}.")
    return value
