"""What ``rapidsms.router.db`` did wrong, by number, and what is done instead.

Each has a test here, but for those that need a worker, broker or database that dies in the
middle: 3, 4 and 5. Of 2, 10, 13 and 16 here is what one process can show; what takes real workers
or several processes is in ``tests/acceptance`` and ``tests/concurrency``.
"""

from __future__ import annotations

import pytest
from django.db import transaction
from rapidsms.models import Backend
from rapidsms.router import get_router, receive, send

from rapidsms_db_router.admin import MessageAdmin, TransmissionAdmin
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.tasks import receive_async, send_transmissions
from tests.integration.executors import SlowGateway
from tests.service.messages import PriorityMessage

pytestmark = pytest.mark.django_db

FAILING = {"ENGINE": "tests.service.backends.FailingBackend"}


def refusing(*numbers):
    return {"ENGINE": "tests.service.backends.RefusingBackend", "refuses": numbers}


def queued(worker, connections, **kwargs):
    """Send, and return the row of a message that no sender has claimed yet."""
    with worker.commit():
        return send("news", connections, **kwargs).database_message


def statuses(message):
    """Return the letter of a message, and those of its transmissions in order."""
    message.refresh_from_db()
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status, "".join(rows)


# Messages lost


@pytest.mark.django_db(transaction=True)
def test_defect_01_no_task_is_published_before_the_transaction_commits(person, worker):
    with transaction.atomic():
        receive("ping", person)
        send("news", [person])
        assert worker.take() == []
    assert [task.name for task in worker.take()] == ["receive_async", "send_transmissions"]


@pytest.mark.django_db(transaction=True)
def test_defect_01_a_rolled_back_send_leaves_no_task(person, worker):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send("news", [person])
        raise ZeroDivisionError
    assert worker.take() == []


def test_defect_02_receive_does_not_raise_where_the_broker_cannot_be_reached(
    person, client, celery_setting, django_capture_on_commit_callbacks
):
    celery_setting("task_always_eager", False)
    celery_setting("broker_url", "amqp://guest:guest@127.0.0.1:1//")
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post("/gateway/", {"from": person.identity, "text": "ping"})
    assert response.status_code == 200
    assert Message.objects.get().status == "Q"


@pytest.mark.parametrize("max_retries", [0, 5])
def test_defect_06_failed_identities_count_on_any_exception(
    worker, people, installed_backends, max_retries
):
    installed_backends["phones"] = {
        **refusing("+254700000001"),
        "router.db.max_retries": max_retries,
    }
    message = queued(worker, people(3))
    worker.work()
    assert statuses(message) == ("E", "SES")
    retried = message.transmissions.filter(next_try__isnull=False)
    assert retried.count() == Batch.objects.count() == bool(max_retries)


def test_defect_07_a_backend_row_that_is_gone_leaves_nothing_queued(people, worker, calls):
    message = queued(worker, people(2))
    Backend.objects.all().delete()
    worker.work()
    assert statuses(message) == ("E", "EE")
    assert calls == []


def test_defect_07_a_task_of_a_backend_that_is_gone_ends_quietly(people, worker):
    message = queued(worker, people(2))
    send_transmissions(backend_id=0, message_id=message.pk, transmission_ids=[])


def test_defect_08_inbound_fields_are_stored_with_the_message(person, worker, received):
    fields = {"external_id": "7", "n": 1}
    with worker.commit():
        msg = receive("ping", person, fields=fields)
    worker.take()  # and the task is lost
    receive_async(message_id=msg.dbm.pk, fields={})
    assert received[0].fields == fields


def test_defect_09_the_error_of_an_app_is_stored(person):
    msg = receive("raise now", person)
    msg.dbm.refresh_from_db()
    first_line, *rest = msg.dbm.error.splitlines()
    assert first_line == "RuntimeError: cannot do '[text]' for [number]"
    assert any("in handle" in line for line in rest)


# Messages repeated


@pytest.mark.parametrize("status", ["P", "S", "D"])
def test_defect_10_and_11_what_is_being_sent_or_was_is_not_sent_again(
    people, worker, calls, status
):
    message = queued(worker, people(2))
    message.transmissions.update(status=status)
    worker.work()
    assert calls == []
    assert statuses(message)[1] == status * 2


def test_defect_10_a_task_that_is_delivered_four_times_sends_once(people, worker, calls):
    queued(worker, people(2))
    (task,) = worker.take()
    for _ in range(4):
        worker.run(task)
    assert len(calls) == 1


def test_defect_12_the_same_connection_twice_gets_one_sms(person, calls):
    send("news", [person, person])
    assert [call.identities for call in calls] == [[person.identity]]


def test_defect_13_the_same_inbound_message_twice_gets_one_reply(person, calls):
    for _ in range(2):
        receive("ping", person, fields={"external_id": "abc"})
    assert Message.objects.filter(direction="I").count() == 1
    assert len(calls) == 1


@pytest.mark.parametrize("text", ["ping", "raise"])
def test_defect_14_a_message_that_was_processed_is_not_processed_again(person, received, text):
    msg = receive(text, person)
    receive_async(message_id=msg.dbm.pk, fields={})
    assert len(received) == 1


def test_defect_15_a_permanent_failure_is_not_retried(people, worker, settings, calls):
    message = queued(worker, people(2))
    installed, settings.INSTALLED_BACKENDS = settings.INSTALLED_BACKENDS, {}
    worker.work()
    settings.INSTALLED_BACKENDS = installed
    worker.make_due()
    assert statuses(message) == ("E", "EE")
    assert set(message.transmissions.values_list("next_try", flat=True)) == {None}
    assert (calls, Batch.objects.count()) == ([], 0)


def test_defect_15_one_bad_number_does_not_make_the_others_go_again(
    people, worker, calls, installed_backends
):
    installed_backends["phones"] = refusing("+254700000001")
    queued(worker, people(3))
    worker.work()
    worker.make_due()
    assert [len(call.identities) for call in calls] == [3, 1]


# Statuses that lie


def test_defect_16_set_status_saves_no_column_that_another_has_written(person):
    msg = send("news", [person])
    stale = Message.objects.get(pk=msg.database_message.pk)
    Message.objects.filter(pk=stale.pk).update(external_id="given meanwhile")
    stale.set_status()
    stale.refresh_from_db()
    assert (stale.external_id, stale.status) == ("given meanwhile", "S")


def test_defect_16_of_two_batches_the_one_that_ends_last_ends_the_message(people, worker, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    message = queued(worker, people(2))
    gateway = worker.sender.executor = SlowGateway()
    worker.sender.wake(people(1)[0].backend)
    worker.sender.step()
    assert statuses(message) == ("P", "PP")
    gateway.answer(1)
    worker.sender.step()
    assert statuses(message) == ("P", "PS")
    gateway.answer(0)
    worker.sender.step()
    assert statuses(message) == ("S", "SS")


def test_defect_17_a_message_to_nobody_is_errored_and_not_delivered():
    message = send("news", []).database_message
    assert (message.status, message.error) == ("E", "no recipients")
    assert message.set_status() == "E"


def test_defect_18_a_partial_delivery_report_moves_no_date_of_sending(people):
    message = send("news", people(2)).database_message
    message.refresh_from_db()
    sent = message.sent
    assert sent
    message.transmissions.filter(pk=message.transmissions.first().pk).update(status="D")
    message.set_status()
    message.refresh_from_db()
    assert (message.status, message.sent) == ("S", sent)


def test_defect_19_every_move_writes_when(people, worker, installed_backends):
    installed_backends["phones"] = {**FAILING, "failures": 1}
    message = queued(worker, people(1))
    moments = [Transmission.objects.get().updated]

    def changed():
        moments.append(Transmission.objects.get().updated)
        return moments[-1] > moments[-2]

    worker.work()
    assert changed()
    worker.make_due()
    assert changed()
    before = message.updated
    message.refresh_from_db()
    assert message.updated > before


def test_defect_19_the_admin_does_not_sort_by_a_date():
    for admin in (MessageAdmin, TransmissionAdmin):
        assert admin.ordering == ("-id",)


def test_defect_20_e_says_whether_a_try_follows(people, worker, installed_backends):
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 1}
    queued(worker, people(1))
    worker.work()
    row = Transmission.objects.get()
    assert row.status == "E"
    assert row.next_try > row.updated
    worker.make_due()
    row.refresh_from_db()
    assert (row.status, row.next_try) == ("E", None)


def test_defect_20_a_message_is_e_no_longer_than_a_transmission_of_it_is(people, worker, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    message = queued(worker, people(2))
    backend = people(1)[0].backend
    gateway = worker.sender.executor = SlowGateway()
    worker.sender.wake(backend)
    worker.sender.step()
    gateway.answer(0, ValueError("busy"))
    worker.sender.step()
    assert statuses(message) == ("E", "EP")
    Batch.objects.filter(claim_token=None).update(ready_at=now())
    worker.sender.wake(backend)
    worker.sender.step()
    assert statuses(message) == ("P", "PP")
    for number in (1, 2):
        gateway.answer(number)
    worker.sender.step()
    assert statuses(message) == ("S", "SS")


# API


def test_defect_21_new_incoming_message_takes_connections_and_text_in_this_order(person):
    msg = get_router().new_incoming_message([person], "ping")
    assert (msg.connections, msg.text) == ([person], "ping")
    msg.dbm.refresh_from_db()
    assert msg.dbm.text == "ping"


def test_defect_22_receive_takes_an_id(person, calls):
    msg = receive("ping", person, id_="of the caller")
    assert msg.id == msg.dbm.pk
    assert len(calls) == 1


def test_defect_23_a_message_that_is_a_reply_is_made_again_from_its_row(person):
    msg = receive("ping", person)
    reply = get_router().create_message_from_dbm(msg.dbm.responses.get())
    assert reply.text == "pong"
    assert reply.in_response_to.text == "ping"


def test_defect_24_a_backend_gets_the_extra_context_of_an_outgoing_message(person, calls):
    send("news", [person], class_=PriorityMessage, fields={"sender": "clinic"})
    assert calls[0].context == {"priority": "high", "sender": "clinic"}


def test_defect_24_a_backend_gets_what_is_answered(person, calls):
    msg = receive("ping", person)
    assert calls[0].context["in_response_to"] == msg.dbm.pk


def test_defect_25_a_reply_to_a_message_without_an_external_id_has_none(person, calls):
    receive("ping", person)
    assert "external_id" not in calls[0].context


def test_defect_26_a_reply_outlives_the_message_it_answers(person):
    msg = receive("ping", person)
    msg.dbm.delete()
    reply = Message.objects.get()
    assert (reply.text, reply.in_response_to) == ("pong", None)
