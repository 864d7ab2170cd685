"""Every way a message comes in."""

from __future__ import annotations

import pytest
from rapidsms.messages.incoming import IncomingMessage
from rapidsms.models import Connection
from rapidsms.router import get_router, receive

from rapidsms_db_router.models import Message
from tests.service.messages import FormMessage

pytestmark = pytest.mark.django_db


def test_receive_stores_runs_the_apps_and_sends_the_reply(person, calls, received):
    msg = receive("ping 1", person)
    assert [seen.text for seen in received] == ["ping 1"]
    assert [(call.text, call.identities) for call in calls] == [("pong 1", [person.identity])]
    message, reply = Message.objects.order_by("pk")
    assert (msg.dbm, msg.id) == (message, message.pk)
    assert (message.direction, message.text, message.status) == ("I", "ping 1", "R")
    assert (reply.direction, reply.text, reply.status) == ("O", "pong 1", "S")
    assert reply.in_response_to == message
    assert message.transmissions.get().status == "R"
    assert reply.transmissions.get().status == "S"


def test_a_gateway_posts_over_http(client, calls):
    response = client.post("/gateway/", {"from": "+254700001", "text": "ping over http"})
    assert response.status_code == 200
    assert [(call.text, call.identities) for call in calls] == [("pong over http", ["+254700001"])]


def test_a_keyword_handler_of_rapidsms_answers(person, calls):
    receive("echo hello", person)
    assert [call.text for call in calls] == ["hello"]


def test_a_message_that_no_app_answers_is_received(person, calls):
    msg = receive("whatever", person)
    msg.dbm.refresh_from_db()
    assert (msg.dbm.status, calls) == ("R", [])


def test_a_message_that_an_app_filters_is_received_and_handled_by_none(person, calls):
    msg = receive("spam spam", person)
    msg.dbm.refresh_from_db()
    assert (msg.dbm.status, msg.dbm.error, calls) == ("R", "", [])


def test_apps_get_one_of_the_class_the_message_came_in(person, received):
    receive("form", person, class_=FormMessage)
    assert [type(msg) for msg in received] == [FormMessage]
    assert Message.objects.get().message_class == "tests.service.messages.FormMessage"


def test_a_class_that_no_worker_can_import_comes_to_the_apps_as_a_usual_message(person, received):
    class LocalMessage(IncomingMessage):
        pass

    msg = receive("form", person, class_=LocalMessage)
    assert type(msg) is LocalMessage
    assert [type(msg) for msg in received] == [IncomingMessage]


def test_a_class_that_is_gone_comes_to_the_apps_as_a_usual_message(person, worker, received):
    with worker.commit():
        receive("form", person, class_=FormMessage)
    Message.objects.update(message_class="tests.service.messages.NoLongerThere")
    worker.work()
    assert [type(msg) for msg in received] == [IncomingMessage]


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "tests.service.backends.RecordingBackend",
        "rapidsms.models.Connection",
        "no such module",
        "tests.integration.no_module.x",
        ".",
        "a\x00b.c",
        "rapidsms.messages.incoming.IncomingMessage.respond",
    ],
)
def test_what_a_row_names_is_not_called_unless_it_is_a_message(
    person, worker, received, caplog, path
):
    with worker.commit():
        msg = receive("form", person)
    Message.objects.filter(pk=msg.id).update(message_class=path.replace("\x00", "\ufffd"))
    worker.work()
    assert [type(msg) for msg in received] == [IncomingMessage]
    assert f"message_class_refused message={msg.id}" in caplog.messages


def test_receive_passes_on_what_the_class_takes(person, received):
    original = receive("first", person)
    receive("second", person, in_response_to=original, fields={"n": 2})
    assert Message.objects.get(text="second").in_response_to == original.dbm
    assert received[1].in_response_to.id == original.id


@pytest.mark.parametrize("shape", [list, iter, "queryset"], ids=["list", "generator", "queryset"])
def test_an_inbound_message_has_several_connections(people, calls, received, shape):
    connections = people(3)
    given = Connection.objects.order_by("pk") if shape == "queryset" else shape(connections)
    router = get_router()
    msg = router.new_incoming_message(connections=given, text="ping all")
    router.receive_incoming(msg)
    assert msg.dbm.transmissions.filter(status="R").count() == 3
    assert list(received[0].connections) == connections
    assert calls[0].identities == [connection.identity for connection in connections]


def test_new_incoming_message_takes_its_arguments_by_position_and_by_keyword(person):
    router = get_router()
    by_position = router.new_incoming_message([person], "one")
    by_keyword = router.new_incoming_message(text="two", connections=[person])
    assert [by_position.text, by_keyword.text] == ["one", "two"]
    assert by_position.connections == by_keyword.connections == [person]


def test_receive_incoming_stores_a_message_that_the_router_did_not_make(person, calls):
    msg = IncomingMessage(connections=[person], text="ping by hand")
    get_router().receive_incoming(msg)
    assert msg.dbm.text == "ping by hand"
    assert [call.text for call in calls] == ["pong by hand"]


def test_apps_get_the_row_with_the_message(person, received):
    msg = receive("ping", person)
    assert (received[0].dbm, received[0].id) == (msg.dbm, msg.dbm.pk)


def test_an_app_may_handle_a_message_whose_default_phase_then_is_skipped(person, settings):
    phases = []

    class Router(type(get_router())):
        def __init__(self):
            super().__init__(apps=[], backends={})
            self.apps = [Witness("first", stops="handle"), Witness("second")]

    class Witness:
        def __init__(self, name, stops=None):
            self.name, self.stops = name, stops

        def __getattr__(self, phase):
            def run(msg):
                phases.append((self.name, phase))
                return phase == self.stops

            return run

    settings.RAPIDSMS_ROUTER = Router()
    msg = receive("anything", person)
    msg.dbm.refresh_from_db()
    assert msg.dbm.status == "R"
    assert phases == [
        ("first", "filter"),
        ("second", "filter"),
        ("first", "parse"),
        ("second", "parse"),
        ("first", "handle"),
    ]
