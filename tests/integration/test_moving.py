"""What waits is sent now, sent at another date, or given up, in chunks of batches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rapidsms.router import send

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message, Transmission
from tests.integration.stage import Stage, statuses

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def stage(worker, monkeypatch, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    return Stage(worker, monkeypatch)


@pytest.fixture
def scheduled(stage, worker, people):
    """A message to six people, in an hour, in three batches."""
    with worker.commit():
        sent = send("news", people(6), not_before=now() + HOUR)
    worker.take()
    return sent.database_message


def run(worker, kind, rows, **more):
    action = bulk_actions.prepare(kind, rows, **more)
    with worker.commit():
        bulk_actions.start(action)
    worker.work()
    return action


def test_what_is_scheduled_is_sent_now(stage, worker, scheduled):
    action = run(worker, "send_now", Batch.objects.all())
    stage.play(seconds=1)
    assert (action.total, action.changed) == (6, 6)
    assert statuses(scheduled) == 6 * "S"
    scheduled.refresh_from_db()
    assert scheduled.not_before <= now()


def test_what_is_scheduled_is_moved(stage, worker, scheduled, person):
    run(worker, "move", Batch.objects.all(), send_at=now() + 2 * HOUR)
    stage.wake()
    stage.play(seconds=3700)
    operators.resume(person.backend)  # has what waits for its gateway be ready
    stage.wake()
    stage.play(seconds=1)
    assert stage.calls == 0
    stage.play(seconds=3700)
    stage.wake()
    stage.play(seconds=1)
    assert statuses(scheduled) == 6 * "S"


def test_what_waits_without_a_date_is_moved_too(stage, worker, people, person):
    operators.pause(person.backend)
    message = stage.store(people(4))
    run(worker, "move", Batch.objects.all(), send_at=now() + HOUR)
    operators.resume(person.backend)
    stage.wake()
    stage.play(seconds=10)
    assert (stage.calls, statuses(message)) == (0, "QQQQ")
    message.refresh_from_db()
    assert message.not_before > now() + HOUR / 2


def test_a_part_of_a_message_is_moved_and_the_rest_keeps_its_date(stage, worker, scheduled, person):
    first = Batch.objects.order_by("pk")[:1]
    run(worker, "send_now", Batch.objects.filter(pk=first[0].pk))
    stage.play(seconds=1)
    operators.resume(person.backend)
    stage.wake()
    stage.play(seconds=10)
    assert statuses(scheduled) == "SS" + 4 * "Q"


def test_what_is_retrying_is_tried_at_another_date(stage, worker, people):
    message = stage.store(people(2))
    stage.play(lambda call: ValueError("no"))
    assert statuses(message) == "EE"
    date = now() + 5 * HOUR
    run(worker, "move", Batch.objects.all(), send_at=date)
    assert set(message.transmissions.values_list("next_try", flat=True)) == {date}
    stage.play(seconds=4 * 3600)
    assert stage.calls == 1
    run(worker, "send_now", Batch.objects.all())
    stage.play(seconds=1)
    assert statuses(message) == "SS"


def test_what_waits_is_given_up_with_a_reason(stage, worker, people, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    message = stage.store(people(6))
    other = stage.store(people(2), "other")
    action = run(worker, "discard", message.batches.all(), reason="too late for it")
    action.refresh_from_db()
    assert (action.state, action.total, action.changed) == ("done", 6, 6)
    errors = message.transmissions.values_list("status", "error", "next_try").distinct()
    assert list(errors) == [("E", "cancelled: too late for it", None)]
    message.refresh_from_db()
    assert (message.status, message.error) == ("E", "6 of 6 transmissions errored")
    assert message.recover_at is None
    stage.play(seconds=1)
    assert statuses(other) == "SS"
    assert not Batch.objects.exists()


def test_what_a_sender_has_is_given_up_but_for_what_is_in_flight(stage, worker, people):
    message = stage.store(people(6))
    stage.senders[0].lanes.clear()
    stage.wake()
    Batch.objects.filter(pk__gt=Batch.objects.earliest("pk").pk).update(ready_at=now() + HOUR)
    stage.step()
    assert stage.in_flight == 1
    action = run(worker, "discard", Batch.objects.all())
    assert action.total == 4
    stage.answer()
    stage.play(seconds=1)
    assert statuses(message) == "SS" + 4 * "E"


def test_what_has_left_meanwhile_is_not_moved(stage, worker, people):
    stage.store(people(6))
    now_, later, gone = (
        bulk_actions.prepare(kind, Batch.objects.all(), send_at=date)
        for kind, date in (("send_now", None), ("move", now() + HOUR), ("discard", None))
    )
    stage.play(seconds=1)
    for action in (now_, later, gone):
        bulk_actions.start(action)
        action.refresh_from_db()
        assert (action.state, action.total, action.changed) == ("done", 6, 0)
    assert Transmission.objects.filter(status="S").count() == 6
    assert Message.objects.get().status == "S"


@pytest.mark.parametrize(("kind", "date"), [("move", None), ("send_now", HOUR)])
def test_a_date_is_needed_where_something_is_moved_to_it(db, kind, date):
    with pytest.raises(ValueError, match="send_at is"):
        bulk_actions.prepare(kind, Batch.objects.all(), send_at=date and now() + date)
