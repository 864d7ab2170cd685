"""Filling the tallies: at each turn of recovery, for a bounded time."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator
from typing import Any

from django.db import transaction

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.operations.broadcasts import finding as broadcasts
from rapidsms_db_router.operations.models import Hour, Latency, Outcome, Tally
from rapidsms_db_router.operations.tallies.counting import count, rows_of
from rapidsms_db_router.operations.tallies.hours import HOUR, OPEN_FOR, discover, discover_older

logger = logging.getLogger(__name__)

#: A turn begins no other hour after this many seconds.
TURN = 2.0
#: An hour is tallied again after its age divided by this, so that the figures of the last hours
#: are fresh and those of the last days cost little.
FRESHNESS = 30
#: It is tallied again no sooner than after this many times what that took.
REST = 20


def at_recovery(**_: Any) -> None:
    """Fill the tallies; a receiver of the signal ``recovery_turn``."""
    fill()


def fill(seconds: float = TURN) -> int:
    """Tally the hours that are due, the newest first; then hours of long ago, one by one.

    :param seconds: no other hour is begun after that.
    :returns: how many hours were tallied.
    """
    begun, tallied = time.monotonic(), 0
    discover()
    for hour in _due():
        tallied += tally(hour)
        if time.monotonic() - begun > seconds:
            return tallied
    while (older := discover_older()) is not None:
        tallied += tally(older)
        if time.monotonic() - begun > seconds:
            break
    return tallied


def tally(hour: Hour) -> bool:
    """Tally one hour.

    :returns: ``False`` if another process has done so meanwhile.
    """
    begun, moment = time.monotonic(), now()
    tallies, latencies = count(hour)
    broadcasts.find(rows_of(hour))
    took = time.monotonic() - begun
    waits = any(each.outcome == Outcome.WAITING for each in tallies)
    is_final = not waits and moment > hour.start + HOUR + OPEN_FOR
    with transaction.atomic(using=alias()):
        same = Hour.objects.filter(pk=hour.pk, tallied_at=hour.tallied_at)
        if not same.update(tallied_at=moment, took=took, is_final=is_final):
            return False
        hour.tallies.all().delete()
        hour.latencies.all().delete()
        Tally.objects.bulk_create(tallies)
        Latency.objects.bulk_create(latencies)
    logger.info("hour_tallied hour=%s rows=%s", hour.start, sum(t.transmissions for t in tallies))
    return True


def _due() -> Iterator[Hour]:
    """Yield the hours that are to be tallied, the newest first."""
    for hour in Hour.objects.filter(is_final=False).order_by("-start"):
        if hour.tallied_at is None or _is_stale(hour, hour.tallied_at):
            yield hour


def _is_stale(hour: Hour, tallied_at: datetime.datetime) -> bool:
    moment = now()
    age, since = moment - hour.start, moment - tallied_at
    # an hour that is not over, or just over, is tallied at every turn
    wait = age / FRESHNESS if age > 2 * HOUR else datetime.timedelta()
    return since >= max(wait, datetime.timedelta(seconds=hour.took * REST))
