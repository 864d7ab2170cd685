"""What apps answer, and to whom."""

from __future__ import annotations

from typing import ClassVar

import pytest
from celery import current_app
from rapidsms.messages.error import ErrorMessage
from rapidsms.router import get_router, receive, send

from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.tasks import receive_async
from tests.service.backends import RecordingBackend
from tests.service.backends import calls as calls_of_backends

pytestmark = pytest.mark.django_db


def test_each_reply_is_a_message_in_response_to_the_first(person, calls):
    msg = receive("twice", person)
    assert [call.text for call in calls] == ["one", "two"]
    assert list(msg.dbm.responses.order_by("pk").values_list("text", "status")) == [
        ("one", "S"),
        ("two", "S"),
    ]


def test_an_error_reply_is_sent_and_keeps_its_class(person, calls):
    msg = receive("unknown words", person)
    reply = msg.dbm.responses.get()
    assert [call.text for call in calls] == ["What was that?"]
    assert reply.message_class == "rapidsms.messages.error.ErrorMessage"
    assert type(get_router().create_message_from_dbm(reply)) is ErrorMessage


def test_a_reply_goes_to_other_connections(people, calls):
    sender, *others = people(3)
    msg = receive("everyone come", sender)
    assert calls[0].identities == [connection.identity for connection in others]
    assert msg.dbm.responses.get().transmissions.count() == 2


def test_a_reply_to_nobody_is_errored_and_the_message_still_received(person, calls):
    msg = receive("everyone come", person)
    msg.dbm.refresh_from_db()
    reply = msg.dbm.responses.get()
    assert msg.dbm.status == "R"
    assert (reply.status, reply.error, calls) == ("E", "no recipients", [])


class Witness(RecordingBackend):
    """Remembers what was stored when it was first called."""

    stored: ClassVar[list[tuple[str, str]]] = []

    def send(self, **kwargs):
        """Look at the rows."""
        if not calls_of_backends:
            replies = Message.objects.filter(direction="O").order_by("pk")
            self.stored[:] = replies.values_list("text", "in_response_to__status")
        super().send(**kwargs)


def test_replies_are_stored_together_and_sent_by_the_same_process_without_a_task(
    person, worker, calls, installed_backends
):
    installed_backends["phones"] = {"ENGINE": Witness}
    with worker.commit():
        receive("twice", person)
    (task,) = worker.take()
    worker.run(task)
    assert [call.text for call in calls] == ["one", "two"]
    assert Witness.stored == [("one", "R"), ("two", "R")]
    assert worker.take() == []
    assert not Batch.objects.exists()
    assert set(Message.objects.values_list("status", "recover_at")) == {("R", None), ("S", None)}


def assert_its_reply_waits_for_a_task(worker, person, calls):
    with worker.commit():
        receive("ping", person)
    (task,) = worker.take()
    worker.run(task)
    assert calls == []
    reply = Message.objects.get(direction="O")
    assert reply.status == "P"
    assert reply.batches.get().claim_token is None


def test_replies_have_tasks_where_their_backend_has_a_queue_of_its_own(
    person, worker, calls, installed_backends
):
    installed_backends["phones"]["router.db.queue"] = "slow"
    assert_its_reply_waits_for_a_task(worker, person, calls)
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue("slow", no_ack=True)
        _, kwargs, _ = queue.get_nowait().payload
        queue.close()
    assert kwargs["backend_id"] == person.backend_id


def test_replies_have_tasks_where_the_project_routes_them(
    person, worker, calls, celery_setting, monkeypatch
):
    celery_setting("task_routes", {"*.send_transmissions": {"queue": "out"}})
    # Celery reads its routes once
    monkeypatch.setattr(current_app.amqp, "_rtable", None)
    monkeypatch.setitem(vars(current_app.amqp), "router", current_app.amqp.Router())
    assert_its_reply_waits_for_a_task(worker, person, calls)


def test_a_reply_that_the_gateway_refuses_is_tried_again(person, worker, calls, installed_backends):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    installed_backends["phones"]["failures"] = 1
    with worker.commit():
        receive("ping", person)
    worker.work()
    reply = Message.objects.get(direction="O")
    assert (reply.status, reply.error, len(calls)) == ("E", "some transmissions errored", 1)
    assert reply.transmissions.get().next_try is not None
    worker.make_due()
    reply.refresh_from_db()
    assert (reply.status, reply.error, len(calls)) == ("S", "", 2)
    assert not Batch.objects.exists()


def test_a_reply_goes_before_the_broadcast_that_waits(person, people, worker, calls, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    with worker.commit():
        send("news", people(5))
    worker.take()
    with worker.commit():
        receive("ping", person)
    worker.work()
    assert [call.text for call in calls] == ["pong", *5 * ["news"]]


def test_a_message_made_again_from_its_row_is_as_it_was(person):
    msg = receive("ping", person, fields={"external_id": "17", "n": 1})
    router = get_router()
    again = router.create_message_from_dbm(msg.dbm)
    assert (again.text, again.id, again.fields) == ("ping", msg.dbm.pk, msg.fields)
    assert list(again.connections) == [person]
    assert again.dbm == msg.dbm
    reply = router.create_message_from_dbm(msg.dbm.responses.get())
    assert reply.in_response_to.id == msg.dbm.pk
    assert reply.in_response_to.fields == msg.fields
    assert reply.database_message == msg.dbm.responses.get()


def test_a_message_made_again_has_the_fields_it_is_given(person):
    msg = receive("ping", person, fields={"n": 1})
    again = get_router().create_message_from_dbm(msg.dbm, fields={"n": 2})
    assert again.fields == {"n": 2}


def test_a_message_made_again_without_its_connections_asks_no_query(
    person, django_assert_num_queries
):
    dbm = Message.objects.get(pk=receive("ping", person).dbm.pk)
    with django_assert_num_queries(0):
        again = get_router().create_message_from_dbm(dbm, fetch_connections=False)
    assert list(again.connections) == []


@pytest.mark.parametrize("way", ["eager", "worker"])
def test_a_reply_that_cannot_be_stored_leaves_none_stored_and_none_sent(
    request, person, calls, settings, way
):
    class Router(DatabaseRouter):
        def process_incoming_phases(self, msg):
            msg.respond("fine")
            msg.respond("not fine", connections=["no connection"])
            return True

    settings.RAPIDSMS_ROUTER = Router()
    if way == "worker":
        worker = request.getfixturevalue("worker")
        with worker.commit():
            msg = receive("anything", person)
        worker.work()
    else:
        msg = receive("anything", person)
    msg.dbm.refresh_from_db()
    assert msg.dbm.status == "E"
    assert "'no connection'" in msg.dbm.error
    assert (Message.objects.filter(direction="O").count(), calls) == (0, [])


def test_a_processed_message_is_not_processed_again(person, received, calls):
    msg = receive("ping", person)
    receive_async(message_id=msg.dbm.pk, fields={})
    assert (len(received), len(calls)) == (1, 1)
