"""A message that is paused: nothing more of it is sent, whoever has it, until it goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rapidsms.router import send

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.outbound import discarding, pausing
from rapidsms_db_router.recovery import recover
from tests.integration.stage import Stage, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(worker, monkeypatch, settings, installed_backends):
    """A sender; one recipient a call, two calls at once, five recipients a batch."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 5
    installed_backends["phones"] |= {"router.db.batch_size": 1, "router.db.concurrency": 2}
    return Stage(worker, monkeypatch)


def test_no_call_of_a_claimed_batch_begins_after_its_message_is_paused(stage, people):
    message = stage.store(people(10))
    stage.step()
    assert stage.in_flight == 2
    assert pausing.pause(message.pk)
    assert not pausing.pause(message.pk)
    stage.answer()
    stage.play(seconds=100)
    assert (stage.calls, statuses(message)) == (2, "SS" + 8 * "Q")
    assert not Batch.objects.claimed().exists()


def test_a_call_in_flight_ends_as_it_would(stage, people):
    message = stage.store(people(10))
    stage.step()
    pausing.pause(message.pk)
    stage.gateway.answer(0)
    stage.step()
    stage.gateway.answer(1, ValueError("no such number"))
    stage.play(seconds=1)
    assert statuses(message) == "SE" + 8 * "Q"
    assert list(Batch.objects.order_by("pk").values_list("paused", "errored")) == [
        (True, True),
        (True, False),
    ]
    stage.clock.go_on(3600)
    stage.play(seconds=100)
    assert stage.calls == 2


def test_it_goes_on_where_it_was_paused(stage, worker, people):
    message = stage.store(people(10))
    stage.step()
    pausing.pause(message.pk)
    stage.answer()
    stage.play(seconds=10)
    with worker.commit():
        assert pausing.go_on(message.pk)
    assert not pausing.go_on(message.pk)
    worker.work()
    stage.play(seconds=1)
    assert statuses(message) == 10 * "S"
    assert sorted(stage.gateway.identities) == sorted(each.identity for each in people(10))
    assert not Batch.objects.exists()


def test_other_messages_of_the_backend_are_sent(stage, people):
    paused = stage.store(people(10))
    stage.step()
    pausing.pause(paused.pk)
    other = stage.store(people(10), "other")
    stage.answer()
    stage.play(seconds=1)
    assert statuses(other) == 10 * "S"
    assert statuses(paused).count("Q") == 8


def test_neither_recovery_nor_a_gateway_that_works_again_sends_it(stage, worker, people, person):
    message = stage.store(people(3))
    pausing.pause(message.pk)
    Batch.objects.update(ready_at=now() - timedelta(hours=1))
    Message.objects.update(recover_at=now())
    recover()
    assert worker.take() == []
    operators.resume(person.backend)
    stage.wake()
    stage.play(seconds=10)
    assert stage.calls == 0


def test_what_is_cut_into_batches_later_is_paused_too(stage, people):
    message = stage.store(people(3))
    pausing.pause(message.pk)
    Batch.objects.all().delete()
    Message.objects.update(recover_at=now())
    recover()
    assert list(Batch.objects.values_list("paused", flat=True)) == [True]
    Batch.objects.all().delete()
    Transmission.objects.update(status="E", error="refused")
    rows = Transmission.objects.filter(message=message)
    bulk_actions.start(bulk_actions.prepare("resend", rows))
    stage.wake()
    stage.play(seconds=10)
    assert (stage.calls, statuses(message)) == (0, "QQQ")


def test_it_expires_while_it_is_paused(stage, worker, people):
    with worker.commit():
        sent = send("news", people(3), expires_at=now() + timedelta(minutes=1))
    message = sent.database_message
    pausing.pause(message.pk)
    stage.clock.go_on(120)
    recover()
    assert statuses(message) == "EEE"
    assert set(message.transmissions.values_list("error", flat=True)) == {"expired"}


def test_a_sender_that_dies_with_it_leaves_it_paused(stage, people):
    message = stage.store(people(10))
    stage.step()
    pausing.pause(message.pk)
    Batch.objects.claimed().update(recover_at=now())
    recover()
    stage.add_sender()
    stage.wake()
    stage.senders[1].step()
    assert stage.gateways[1].calls == []


def test_a_paused_message_is_cancelled(stage, people):
    message = stage.store(people(10))
    stage.step()
    pausing.pause(message.pk)
    action = bulk_actions.prepare("discard", Batch.objects.filter(message=message))
    assert action.total == 8
    bulk_actions.start(action)
    stage.answer()
    stage.play(seconds=1)
    message.refresh_from_db()
    assert statuses(message) == "SS" + 8 * "E"
    assert (message.status, message.error) == ("E", "8 of 10 transmissions errored")


@pytest.mark.parametrize("give_up", ["cancel", "delete"])
def test_what_was_given_up_while_it_was_paused_can_be_sent_again(stage, people, give_up):
    message = stage.store(people(3))
    pausing.pause(message.pk)
    if give_up == "cancel":
        discarding.cancel(Message.objects.filter(pk=message.pk))
    else:
        keys = message.transmissions.values_list("connection", flat=True)
        discarding.discard_of(list(keys), discarding.CONNECTION_DELETED)
    message.refresh_from_db()
    assert (message.status, message.paused_at) == ("E", None)
    bulk_actions.start(bulk_actions.prepare("resend", message.transmissions.all()))
    stage.wake()
    stage.play(seconds=10)
    assert statuses(message) == "SSS"


def test_one_that_ends_while_it_is_paused_is_not_paused_any_more(stage, people):
    message = stage.store(people(2))
    stage.step()
    pausing.pause(message.pk)
    stage.gateway.answer(0)
    stage.gateway.answer(1, PermanentSendingError("no such number"))
    stage.play(seconds=1)
    message.refresh_from_db()
    assert (statuses(message), message.paused_at) == ("SE", None)


def test_one_whose_calls_all_succeed_is_not_paused_any_more(stage, people):
    message = stage.store(people(2))
    stage.step()
    pausing.pause(message.pk)
    stage.answer()
    stage.play(seconds=1)
    message.refresh_from_db()
    assert (message.status, message.paused_at) == ("S", None)


def test_an_inbound_message_is_not_paused(person, worker):
    message = Message.objects.create(direction="I", text="ping")
    assert not pausing.pause(message.pk)
