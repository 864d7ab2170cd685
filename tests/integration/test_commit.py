"""Stored first, published after the commit; and what a broker that is down changes: nothing."""

from __future__ import annotations

import time

import pytest
from django.db import transaction
from django.test import TransactionTestCase
from rapidsms.models import Backend
from rapidsms.router import receive, send

from rapidsms_db_router.models import Batch, Message


class CommitTest(TransactionTestCase):
    """Real commits and rollbacks."""

    @pytest.fixture(autouse=True)
    def _fixtures(self, worker, people, client):
        self.worker, self.people = worker, people

    def names(self):
        return [task.name for task in self.worker.take()]

    def test_outside_a_transaction_a_task_is_published_at_once(self):
        receive("ping", self.people(1)[0])
        self.assertEqual(self.names(), ["receive_async"])
        send("news", self.people(1))
        self.assertEqual(self.names(), ["send_transmissions"])

    def test_within_a_transaction_nothing_is_published_before_the_commit(self):
        with transaction.atomic():
            receive("ping", self.people(1)[0])
            send("news", self.people(1))
            self.assertEqual(self.names(), [])
        self.assertEqual(self.names(), ["receive_async", "send_transmissions"])

    def test_within_nested_transactions_nothing_is_published_before_the_outermost_commit(self):
        with transaction.atomic():
            with transaction.atomic():
                send("news", self.people(1))
            self.assertEqual(self.names(), [])
        self.assertEqual(self.names(), ["send_transmissions"])

    def test_a_rollback_leaves_nothing_stored_and_nothing_published(self):
        person = self.people(1)[0]
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            receive("ping", person)
            send("news", [person])
            raise ZeroDivisionError
        self.assertEqual(self.names(), [])
        self.assertEqual(Message.objects.count(), 0)

    def test_a_rolled_back_savepoint_takes_only_its_own_along(self):
        person = self.people(1)[0]
        with transaction.atomic():
            send("first", [person])
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                send("second", [person])
                raise ZeroDivisionError
        self.assertEqual(self.names(), ["send_transmissions"])
        self.assertEqual([message.text for message in Message.objects.all()], ["first"])

    def test_a_message_that_workers_were_told_of_is_p(self):
        with transaction.atomic():
            msg = send("news", self.people(1))
        self.assertEqual(Message.objects.get().status, "P")
        self.assertEqual(msg.database_message.transmissions.get().status, "Q")

    def test_a_whole_conversation(self):
        receive("ping", self.people(1)[0])
        self.worker.work()
        statuses = Message.objects.order_by("pk").values_list("text", "status")
        self.assertEqual(list(statuses), [("ping", "R"), ("pong", "S")])


@pytest.mark.django_db
def test_tasks_are_published_with_their_names_in_json(people, worker):
    connections = people(2)
    with worker.commit():
        received = receive("ping", connections[0], fields={"n": 1})
        sent = send("news", connections).database_message
    inbound, outbound = worker.take()
    # the message itself has them: in a broker anybody could read them
    assert inbound.kwargs == {"message_id": received.dbm.pk, "fields": {}}
    assert outbound.kwargs == {
        "backend_id": connections[0].backend_id,
        "message_id": sent.pk,
        "transmission_ids": sorted(sent.transmissions.values_list("pk", flat=True)),
    }
    assert (inbound.eta, outbound.eta) == (None, None)


@pytest.mark.django_db
def test_one_task_is_published_for_each_backend_whatever_the_number_of_batches(
    people, worker, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    with worker.commit():
        message = send("news", people(7, "phones") + people(2, "radios")).database_message
    assert Batch.objects.count() == 5
    tasks = worker.take()
    names = [Backend.objects.get(pk=task.kwargs["backend_id"]).name for task in tasks]
    assert sorted(names) == ["phones", "radios"]
    for name, task in zip(names, tasks, strict=True):
        rows = message.transmissions.filter(connection__backend__name=name).order_by("pk")
        first = list(rows.values_list("pk", flat=True)[:2])
        assert task.kwargs["transmission_ids"] == first


@pytest.mark.django_db
def test_a_reply_needs_no_task(person, worker, calls):
    with worker.commit():
        receive("ping", person)
    (inbound,) = worker.take()
    worker.run(inbound)
    assert [call.text for call in calls] == ["pong"]
    assert worker.take() == []


BROKERS_THAT_ARE_DOWN = ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"]


@pytest.fixture(params=BROKERS_THAT_ARE_DOWN, ids=["redis", "rabbitmq"])
def broker_down(request, celery_setting):
    """Nothing listens where the broker should be."""
    celery_setting("task_always_eager", False)
    celery_setting("broker_url", request.param)


@pytest.mark.django_db
@pytest.mark.usefixtures("broker_down")
@pytest.mark.parametrize("way", ["receive", "send", "http"])
def test_a_broker_that_is_down_costs_one_line_in_the_log_and_no_more_than_two_seconds(
    way, person, client, caplog, django_capture_on_commit_callbacks
):
    started = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        if way == "receive":
            receive("ping", person)
        elif way == "send":
            send("news", [person])
        else:
            posted = client.post("/gateway/", {"from": person.identity, "text": "ping"})
            assert posted.status_code == 200
    assert time.monotonic() - started < 2
    message = Message.objects.get()
    assert message.status == "Q"
    ours = [record for record in caplog.records if record.name.startswith("rapidsms_db_router")]
    assert [record.getMessage() for record in ours if record.levelname == "ERROR"] == [
        f"publishing_failed message={message.pk} error=OperationalError"
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("broker_down")
def test_a_broadcast_of_many_batches_does_not_wait_for_the_broker_at_each(
    people, caplog, settings, django_capture_on_commit_callbacks
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    connections = people(20)
    started = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        send("news", connections)
    assert time.monotonic() - started < 2
    assert caplog.text.count("publishing_failed") == 1
