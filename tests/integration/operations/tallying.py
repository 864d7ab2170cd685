"""Tallies in tests: all of them filled, and added up."""

from __future__ import annotations

from rapidsms_db_router.operations.models import Hour, Tally
from rapidsms_db_router.operations.tallies import filling


def fill_all() -> None:
    """Give the tallies as many turns as they need."""
    count = -1
    while count != (count := Hour.objects.exclude(tallied_at=None).count()):
        filling.fill()


def totals() -> dict[str, int]:
    """Return how many transmissions are tallied, by outcome."""
    found: dict[str, int] = {}
    for tally in Tally.objects.all():
        found[tally.outcome] = found.get(tally.outcome, 0) + tally.transmissions
    return found
