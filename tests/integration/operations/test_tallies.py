"""Tallies add up to what the tables hold, whatever the dates and the outcomes."""

from __future__ import annotations

import datetime
import random
from bisect import bisect_left

import pytest

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, RecoverySchedule, Transmission
from rapidsms_db_router.operations import figures, histograms
from rapidsms_db_router.operations.models import Hour, Outcome, Span
from rapidsms_db_router.operations.tallies import filling, hours
from tests.acceptance.running import wait_for
from tests.integration.operations.tallying import fill_all, totals

pytestmark = pytest.mark.django_db

SECOND, HOUR = datetime.timedelta(seconds=1), datetime.timedelta(hours=1)


def bucket(seconds: float) -> int:
    """Return the place of the bucket that a duration belongs to."""
    return bisect_left(histograms.BOUNDS, seconds)


def test_each_outcome_is_counted(person, stored):
    stored(person, SECOND, Status.QUEUED)
    stored(person, SECOND, Status.PROCESSING)
    stored(person, SECOND, Status.ERRORED, next_try=now())
    stored(person, SECOND, Status.ERRORED, error="HTTPError: HTTP 403")
    stored(person, SECOND, Status.SENT)
    stored(person, SECOND, Status.DELIVERED)
    stored(person, SECOND, Status.RECEIVED, Direction.INCOMING)
    filling.fill()
    assert totals() == {"waiting": 3, "failed": 1, "sent": 1, "delivered": 1, "received": 1}
    (found,) = figures.flows(now() - HOUR)
    flow = found[person.backend.name]
    assert (flow.sent, flow.delivered, flow.failed, flow.waiting) == (2, 1, 1, 3)
    assert flow.segments[Outcome.DELIVERED] == 2


def test_an_hour_that_is_not_over_is_counted_again(person, stored):
    row = stored(person, SECOND, Status.QUEUED)
    filling.fill()
    Transmission.objects.filter(pk=row.pk).update(status=Status.SENT)
    wait_for("the hour to be counted again", lambda: filling.fill() and totals() == {"sent": 1})


def test_every_transmission_is_in_one_hour(person, stored):
    chance = random.Random(1)
    ages = sorted((chance.random() * 300 * HOUR for _ in range(200)), reverse=True)
    for age in ages:
        stored(person, age)
    fill_all()
    assert totals() == {"sent": 200}
    starts = {hours.hour_of(row.date) for row in Transmission.objects.all()}
    assert set(Hour.objects.values_list("start", flat=True)) == starts
    for hour in Hour.objects.all():
        counted = sum(hour.tallies.values_list("transmissions", flat=True))
        of_hour = Transmission.objects.filter(date__gte=hour.start, date__lt=hour.start + HOUR)
        assert counted == of_hour.count()


def test_gaps_in_the_primary_keys_are_no_obstacle(person, stored):
    for hour in range(40, 0, -1):
        stored(person, hour * HOUR)
    kept = list(Transmission.objects.values_list("pk", flat=True))[::7]
    Transmission.objects.exclude(pk__in=kept).delete()
    fill_all()
    assert totals() == {"sent": len(kept)}


def test_an_hour_is_final_once_nothing_of_it_can_change(person, stored):
    stored(person, 90 * HOUR, Status.ERRORED, next_try=now() + 5 * HOUR)
    stored(person, 80 * HOUR)
    stored(person, SECOND)
    fill_all()
    is_final = Hour.objects.order_by("start").values_list("is_final", flat=True)
    assert list(is_final) == [False, True, False]


def test_latencies_are_counted_from_when_a_message_may_be_sent(person, stored):
    moment = now()
    asked = stored(person, 100 * SECOND, Status.RECEIVED, Direction.INCOMING)
    stored(
        person, 99 * SECOND, original=asked.message, sent=asked.date + 4 * SECOND, delivered=moment
    )
    scheduled = stored(person, 90 * SECOND, sent=moment)
    Message.objects.filter(pk=scheduled.message_id).update(not_before=moment - 25 * SECOND)
    filling.fill()
    since = moment - HOUR
    (found,) = figures.latencies(since)
    answered = found[Span.ANSWERED]
    assert answered[bucket(4)] == sum(answered) == 1
    sent = found[Span.SENT]
    assert sum(sent) == 2
    assert sent[bucket(25)] == sent[bucket(3)] == 1
    assert sum(found[Span.DELIVERED]) == 1


def test_failures_are_grouped_by_reason(person, stored):
    for number in range(3):
        stored(person, SECOND, Status.ERRORED, error=f"HTTPError: HTTP 403 for +2567720000{number}")
    stored(person, SECOND, Status.ERRORED, error="expired")
    filling.fill()
    found = figures.failures(now() - HOUR)
    assert [(each.reason, each.transmissions) for each in found] == [
        ("HTTPError: HTTP 403 for …", 3),
        ("expired", 1),
    ]


def test_a_turn_of_recovery_fills_the_tallies(person, stored):
    stored(person, SECOND)
    signals.tell(signals.recovery_turn, sender=RecoverySchedule)
    assert totals() == {"sent": 1}
