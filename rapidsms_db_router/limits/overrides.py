"""Limits of a backend: its options, unless operators have set others at run time."""

from __future__ import annotations

from dataclasses import dataclass

from rapidsms_db_router import conf
from rapidsms_db_router.models import BackendState


@dataclass(frozen=True)
class Limits:
    """What a backend may be asked to do."""

    #: SMS segments a second over all workers; ``None``: as many as it takes.
    rate: float | None
    #: Calls at once over all workers.
    concurrency: int
    #: Tries that follow the first.
    max_retries: int


def limits_of(state: BackendState | None, backend_name: str) -> Limits:
    """Return the limits that count now.

    :param state: the backend's state, with what operators have set.
    """
    limits = Limits(
        rate=conf.rate(backend_name),
        concurrency=conf.concurrency(backend_name),
        max_retries=conf.max_retries(backend_name),
    )
    if state is None:
        return limits
    return Limits(
        rate=conf.parse_rate(state.rate) if state.rate else limits.rate,
        concurrency=limits.concurrency if state.concurrency is None else state.concurrency,
        max_retries=limits.max_retries if state.max_retries is None else state.max_retries,
    )
