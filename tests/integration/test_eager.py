"""Eager mode, where all is done when receive() returns; and eager backends, where a part is."""

from __future__ import annotations

import threading
from typing import ClassVar

import pytest
from django.db import connection, transaction
from django.test import TestCase
from rapidsms.errors import MessageSendingError
from rapidsms.router import receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, SlotLease, Transmission
from tests.service.backends import RecordingBackend

FAILING = {"ENGINE": "tests.service.backends.FailingBackend"}


def statuses():
    return list(Message.objects.order_by("pk").values_list("status", flat=True))


class EagerModeTest(TestCase):
    """No commit ever comes in a TestCase."""

    @pytest.fixture(autouse=True)
    def _connection(self, person, calls):
        self.person, self.calls = person, calls

    def test_a_message_is_received_and_its_reply_sent_when_receive_returns(self):
        msg = receive("ping", self.person)
        self.assertEqual(statuses(), ["R", "S"])
        self.assertEqual([call.text for call in self.calls], ["pong"])
        msg.dbm.refresh_from_db()
        self.assertEqual(msg.dbm.status, "R")

    def test_a_message_is_sent_when_send_returns(self):
        send("news", [self.person])
        self.assertEqual(statuses(), ["S"])

    def test_within_atomic_too(self):
        with transaction.atomic():
            receive("ping", self.person)
            self.assertEqual(statuses(), ["R", "S"])


class Witness(RecordingBackend):
    """Remembers in which thread it was called, and whether in a transaction."""

    seen: ClassVar[list[tuple[threading.Thread, bool]]] = []

    def send(self, **kwargs):
        super().send(**kwargs)
        self.seen.append((threading.current_thread(), connection.in_atomic_block))


@pytest.fixture
def witness(installed_backends):
    """Where ``phones`` was called."""
    installed_backends["phones"]["ENGINE"] = Witness
    Witness.seen.clear()
    return Witness.seen


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", [receive, send], ids=["receive", "send"])
def test_in_eager_mode_backends_are_called_in_the_callers_thread_and_transaction(
    person, witness, received, way
):
    with transaction.atomic():
        way("ping", person)
        assert witness == [(threading.current_thread(), True)]
        assert Message.objects.filter(direction="O", status="S").count() == 1
        transaction.set_rollback(True)
    assert Message.objects.count() == 0
    assert Transmission.objects.count() == Batch.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_no_sender_is_started(person, witness):
    before = set(threading.enumerate())
    receive("ping", person)
    assert len(witness) == 1
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert not started & {"rapidsms_db_router-sender", "rapidsms_db_router-call"}


@pytest.mark.django_db
def test_in_eager_mode_nothing_is_left_to_be_done(people, installed_backends):
    installed_backends["radios"] = dict(installed_backends["phones"])
    one, *others = people(3)
    receive("everyone hears", one)
    send("news", [one, *others, *people(2, "radios")])
    assert set(statuses()) == {"R", "S"}
    assert not Batch.objects.exists()
    assert not SlotLease.objects.exists()
    assert not Message.objects.filter(recover_at__isnull=False).exists()


@pytest.mark.django_db
def test_in_eager_mode_replies_go_out_in_the_order_in_which_the_app_gave_them(person, calls):
    receive("twice", person)
    assert [call.text for call in calls] == ["one", "two"]
    assert statuses() == ["R", "S", "S"]


@pytest.mark.django_db
def test_in_eager_mode_an_app_that_raises_leaves_e_when_receive_returns(person, calls):
    receive("raise now", person)
    assert (statuses(), calls) == (["E"], [])


@pytest.mark.django_db
def test_eager_mode_tries_again_at_once(person, calls, installed_backends):
    installed_backends["phones"] = {**FAILING, "failures": 2}
    send("news", [person])
    assert len(calls) == 3
    assert statuses() == ["S"]
    assert Transmission.objects.get().attempts == 3


@pytest.mark.django_db
def test_eager_mode_ends_errored_after_the_last_try(person, calls, installed_backends):
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 2}
    send("news", [person])
    assert len(calls) == 3
    row = Transmission.objects.get()
    assert (row.status, row.next_try) == ("E", None)
    assert statuses() == ["E"]


@pytest.mark.django_db
def test_eager_mode_with_celery_propagating_raises_after_the_last_try(
    person, calls, installed_backends, celery_setting
):
    celery_setting("task_eager_propagates", True)
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 1}
    with pytest.raises(MessageSendingError):
        send("news", [person])
    assert len(calls) == 2
    assert statuses() == ["E"]


@pytest.fixture(params=["router.db.eager", "router.celery.eager"])
def eager_backend(request, installed_backends):
    """``phones`` is eager; ``radios`` is not."""
    installed_backends["radios"] = dict(installed_backends["phones"])
    installed_backends["phones"][request.param] = True
    return installed_backends["phones"]


@pytest.mark.django_db
@pytest.mark.usefixtures("eager_backend")
def test_an_eager_backend_is_called_in_the_process_that_sends(person, worker, calls):
    with worker.commit():
        send("news", [person])
        assert calls == []  # not before the commit
    assert worker.take() == []
    assert [call.text for call in calls] == ["news"]
    assert statuses() == ["S"]


@pytest.mark.django_db
@pytest.mark.usefixtures("eager_backend")
def test_a_message_from_an_eager_backend_is_processed_in_the_process_that_receives(
    person, worker, calls
):
    with worker.commit():
        receive("ping", person)
    assert worker.take() == []
    assert [call.text for call in calls] == ["pong"]
    assert statuses() == ["R", "S"]


@pytest.mark.django_db
@pytest.mark.usefixtures("eager_backend")
def test_other_backends_beside_an_eager_one_have_their_tasks(people, worker, calls):
    with worker.commit():
        send("news", people(2, "phones") + people(2, "radios"))
    assert [call.backend for call in calls] == ["phones"]
    assert statuses() == ["P"]
    worker.work()
    assert [call.backend for call in calls] == ["phones", "radios"]
    assert statuses() == ["S"]


@pytest.mark.django_db
@pytest.mark.usefixtures("eager_backend")
def test_a_message_from_another_backend_has_its_task(people, worker, calls):
    with worker.commit():
        receive("ping", people(1, "radios")[0])
    assert statuses() == ["Q"]
    assert [task.name for task in worker.take()] == ["receive_async"]


@pytest.mark.django_db
def test_an_eager_backend_that_fails_is_tried_again_by_a_worker(
    person, worker, calls, eager_backend
):
    eager_backend |= {**FAILING, "failures": 1}
    with worker.commit():
        send("news", [person])
    assert statuses() == ["E"]
    assert len(calls) == 1
    assert Transmission.objects.get().next_try > now()
    worker.make_due()
    assert statuses() == ["S"]
    assert len(calls) == 2


@pytest.mark.django_db
def test_an_eager_backend_that_fails_does_not_fail_its_caller(person, worker, eager_backend):
    eager_backend |= FAILING
    with worker.commit():
        send("news", [person])
    assert statuses() == ["E"]
