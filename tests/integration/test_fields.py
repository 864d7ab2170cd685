"""Fields both ways, and what backends are told beside the text."""

from __future__ import annotations

import pytest
from rapidsms.router import get_router, receive, send

from rapidsms_db_router.models import Message
from rapidsms_db_router.tasks import receive_async, send_transmissions
from tests.service.messages import PriorityMessage

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("fields", [{"n": 1, "deep": {"list": [1, None]}}, {}, None])
def test_inbound_fields_are_stored_and_given_to_the_apps(person, received, fields):
    receive("ping", person, fields=fields)
    assert Message.objects.get(direction="I").fields == (fields or {})
    assert received[0].fields == (fields or {})


def test_inbound_fields_survive_without_the_task(person, worker, received):
    with worker.commit():
        msg = receive("ping", person, fields={"n": 1})
    worker.take()  # lost
    receive_async(message_id=msg.dbm.pk, fields=None)
    assert [msg.fields for msg in received] == [{"n": 1}]


def test_the_external_id_has_its_own_column(person):
    msg = receive("ping", person, fields={"external_id": 17})
    assert msg.dbm.external_id == "17"
    assert msg.dbm.fields == {"external_id": 17}


def test_a_backend_gets_the_message_and_the_external_id_that_are_answered(person, calls):
    msg = receive("ping", person, fields={"external_id": "abc"})
    assert calls[0].context == {"in_response_to": msg.dbm.pk, "external_id": "abc"}


def test_a_backend_gets_no_empty_external_id(person, calls):
    msg = receive("ping", person)
    assert calls[0].context == {"in_response_to": msg.dbm.pk}


def test_a_backend_gets_no_context_with_a_message_that_answers_none(person, calls):
    send("news", [person])
    assert calls[0].context == {}


def test_a_backend_gets_the_extra_context_of_a_custom_class(person, calls):
    send("news", [person], class_=PriorityMessage, fields={"sender": "clinic"})
    assert calls[0].context == {"priority": "high", "sender": "clinic"}
    message = Message.objects.get()
    assert message.message_class == "tests.service.messages.PriorityMessage"
    assert message.fields == {"sender": "clinic"}


def test_the_extra_context_outlives_the_process_that_made_it(person, worker, calls):
    with worker.commit():
        send("news", [person], class_=PriorityMessage, fields={"sender": "clinic"})
    worker.work()
    assert calls[0].context == {"priority": "high", "sender": "clinic"}


def test_an_extra_context_json_cannot_say_reaches_the_backend_as_text(person, calls):
    send("news", [person], class_=PriorityMessage, fields={"sender": {1}})
    assert calls[0].context == {"priority": "high", "sender": "{1}"}


def test_the_backend_of_a_row_that_no_router_stored_learns_what_it_answers(person, calls):
    original = receive("whatever", person, fields={"external_id": "abc"}).dbm
    router = get_router()
    dbm = router.queue_message("O", [person], "answer")
    Message.objects.filter(pk=dbm.pk).update(in_response_to=original)
    ids = list(dbm.transmissions.values_list("pk", flat=True))
    send_transmissions(person.backend_id, dbm.pk, ids)
    assert calls[0].context == {"in_response_to": original.pk, "external_id": "abc"}


def test_a_backend_gets_the_primary_key_of_the_row(person, calls):
    msg = send("news", [person])
    assert calls[0].id_ == msg.database_message.pk


def test_outbound_fields_are_given_back_with_the_message(person):
    msg = send("news", [person], fields={"campaign": 3})
    again = get_router().create_message_from_dbm(msg.database_message)
    assert again.fields == {"campaign": 3}
