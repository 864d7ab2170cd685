"""A task that comes twice, late, or from somewhere else decides nothing: the rows do."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from rapidsms.router import lookup_connections, receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import MessageSendingError
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.tasks import receive_async, send_transmissions
from tests.integration.conftest import Published

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(params=["in a worker", "called directly"])
def task(request, worker):
    """A function that runs ``send_transmissions`` about some transmissions of a message."""

    def run(message, rows, backend_id):
        named = {
            "backend_id": backend_id,
            "message_id": message.pk,
            "transmission_ids": [row.pk for row in rows],
        }
        if request.param == "in a worker":
            worker.run(Published("send_transmissions", named, None, "stray"))
            worker.step()
        else:
            with worker.commit():
                send_transmissions(**named)

    return run


@pytest.fixture
def store(worker, people):
    """A function that stores a message to three people, and loses its doorbell."""

    def store(**dates):
        with worker.commit():
            message = send("news", people(3), **dates).database_message
        worker.take()
        return message

    return store


def letters(message):
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return "".join(rows)


@pytest.mark.parametrize("some", [1, 3], ids=["some", "all"])
def test_it_sends_nothing_while_the_backend_is_paused(task, store, person, calls, some):
    operators.pause(person.backend)
    message = store()
    task(message, message.transmissions.order_by("pk")[:some], person.backend_id)
    assert (letters(message), calls) == ("QQQ", [])


@pytest.mark.parametrize("batches", ["as stored", "lost"])
@pytest.mark.parametrize("some", [1, 3], ids=["some", "all"])
def test_it_sends_nothing_before_the_date_of_the_message(task, store, person, calls, some, batches):
    message = store(not_before=now() + HOUR)
    if batches == "lost":
        Batch.objects.all().delete()
    task(message, message.transmissions.order_by("pk")[:some], person.backend_id)
    assert (letters(message), calls) == ("QQQ", [])
    assert Batch.objects.claimable().count() == 0


@pytest.mark.parametrize("some", [1, 3], ids=["some", "all"])
def test_it_sends_nothing_of_a_message_that_has_expired(task, store, person, calls, some):
    message = store(expires_at=now() + HOUR)
    Message.objects.update(expires_at=now())
    task(message, message.transmissions.order_by("pk")[:some], person.backend_id)
    assert calls == []
    assert set(letters(message)) <= {"Q", "E"}


@pytest.mark.parametrize("some", [1, 3], ids=["some", "all"])
def test_it_makes_no_retry_before_its_date(task, store, person, installed_backends, calls, some):
    installed_backends["phones"]["ENGINE"] = "tests.service.backends.FailingBackend"
    message = store()
    rows = message.transmissions.order_by("pk")
    with suppress(MessageSendingError):  # the caller is told of the first try
        task(message, rows, person.backend_id)
    tried = len(calls)
    task(message, rows[:some], person.backend_id)
    assert (letters(message), len(calls)) == ("EEE", tried)


def test_it_sends_through_no_other_backend_than_the_connections(
    task, store, worker, installed_backends, calls
):
    installed_backends["other"] = installed_backends["phones"]
    [other] = lookup_connections("other", ["1"])
    message = store()
    task(message, message.transmissions.all(), other.backend_id)
    assert (letters(message), calls) == ("QQQ", [])


def test_it_sends_nothing_of_another_message(task, store, person, calls):
    message, another = store(), store(not_before=now() + HOUR)
    task(message, another.transmissions.all(), person.backend_id)
    assert letters(another) == "QQQ"


def test_it_takes_no_inbound_message_for_an_outbound_one(task, worker, person, calls):
    with worker.commit():
        message = receive("no answer", person).dbm
    task(message, message.transmissions.all(), person.backend_id)
    assert (letters(message), calls) == ("Q", [])


def test_a_connection_that_was_moved_is_sent_to_through_its_own_backend(
    worker, store, person, installed_backends, calls
):
    installed_backends["other"] = installed_backends["phones"]
    [other] = lookup_connections("other", ["1"])
    message = store()
    type(person).objects.filter(pk=person.pk).update(backend=other.backend)
    worker.sender.wake(person.backend)
    worker.step()
    assert sorted(letters(message)) == ["Q", "S", "S"]
    Message.objects.update(recover_at=now())
    recover()  # which finds a transmission that is in no batch
    worker.sender.wake(other.backend)
    worker.step()
    assert letters(message) == "SSS"
    assert [(call.backend, len(call.identities)) for call in calls] == [("phones", 2), ("other", 1)]


# Inbound


@pytest.mark.parametrize("fields", [{}, {"n": 1}])
def test_the_fields_are_the_stored_ones_also_if_there_are_none(worker, person, received, fields):
    with worker.commit():
        msg = receive("ping", person, fields=fields)
    worker.take()
    stray = {"message_id": msg.dbm.pk, "fields": {"n": 2, "forged": True}}
    worker.run(Published("receive_async", stray, None, "stray"))
    assert [msg.fields for msg in received] == [fields]


def test_an_outbound_message_is_not_received(worker, store, received):
    message = store()
    worker.run(Published("receive_async", {"message_id": message.pk, "fields": {}}, None, "stray"))
    receive_async(message_id=message.pk, fields={})
    assert received == []
    assert letters(message) == "QQQ"
