"""What operators see of a backend, and what they decide: pause and resume."""

from __future__ import annotations

import logging

from django.db import transaction
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import circuit
from rapidsms_db_router.limits.circuit import Circuit
from rapidsms_db_router.models import BackendState, Batch

logger = logging.getLogger(__name__)


def state_of(backend: Backend) -> BackendState | None:
    """Return what is known of a backend, as of when it was read."""
    try:
        state: BackendState = backend.router_state
    except BackendState.DoesNotExist:
        return None
    return state


def describe(backend: Backend) -> str:
    """Return in words whether a backend is called, and why not."""
    state = state_of(backend)
    if state is not None and state.paused:
        return "paused"
    found = circuit.state_of(state, now())
    if found is Circuit.CLOSED or state is None:
        return "working"
    until = f"{state.open_until:%Y-%m-%d %H:%M:%S %Z}".rstrip()
    since = f"{state.opened_at:%Y-%m-%d %H:%M:%S %Z}".rstrip() if state.opened_at else "?"
    tried = f"tried again at {until}" if found is Circuit.OPEN else "being tried again"
    return f"out of order since {since} ({state.reason}), {tried}"


def pause(backend: Backend) -> None:
    """Have no further call made to a backend: within a second, and calls in flight end."""
    with transaction.atomic(using=alias()):
        state = BackendState.objects.lock(backend.pk)
        state.paused = True
        state.save(update_fields=("paused",))
    logger.info("backend_paused backend=%s", backend.pk)


def resume(backend: Backend) -> None:
    """Have a backend called again, also one whose circuit is open; the caller rings its bell."""
    with transaction.atomic(using=alias()):
        state = BackendState.objects.lock(backend.pk)
        state.paused = False
        circuit.record_response(state)
        state.save()
        # what failed by the gateway's fault needs not wait any longer
        Batch.objects.make_ready(backend.pk)
    logger.info("backend_resumed backend=%s", backend.pk)
