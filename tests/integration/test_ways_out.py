"""Every way a message goes out."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.messages.outgoing import OutgoingMessage
from rapidsms.models import Connection, Contact
from rapidsms.router import get_router, send

from rapidsms_db_router.models import Message, Transmission

pytestmark = pytest.mark.django_db


def numbers(count):
    return [f"+25470000{n:04}" for n in range(count)]


SHAPES = {
    "list": lambda: list(Connection.objects.all()),
    "tuple": lambda: tuple(Connection.objects.all()),
    "set": lambda: set(Connection.objects.all()),
    "generator": lambda: (connection for connection in Connection.objects.all()),
    "manager's queryset": lambda: Connection.objects.all(),
    "filtered": lambda: Connection.objects.filter(identity__startswith="+2547"),
    "ordered": lambda: Connection.objects.order_by("-identity"),
    "sliced": lambda: Connection.objects.order_by("identity")[:4],
    "distinct": lambda: Connection.objects.filter(backend__name="phones").distinct(),
    "joined to many rows": lambda: Connection.objects.filter(transmissions__message__text="old"),
    "union": lambda: Connection.objects.filter(identity__endswith="0").union(
        Connection.objects.exclude(identity__endswith="0")
    ),
    "deferred": lambda: Connection.objects.only("pk"),
    "select_related": lambda: Connection.objects.select_related("backend"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_send_takes_connections_in_every_shape(people, calls, shape):
    people(4)
    for _ in range(2):  # for the join: each connection is in it twice
        old = Message.objects.create(direction="O", text="old", status="S")
        for recipient in Connection.objects.all():
            Transmission.objects.create(message=old, connection=recipient, status="S")
    msg = send("news", shape())
    dbm = msg.database_message
    assert sorted(calls[0].identities) == numbers(4)
    assert len(calls) == 1
    dbm.refresh_from_db()
    assert (dbm.status, dbm.transmissions.filter(status="S").count()) == ("S", 4)


def test_send_takes_part_of_a_slice(people, calls):
    people(4)
    send("news", Connection.objects.order_by("identity")[1:3])
    assert sorted(calls[0].identities) == numbers(3)[1:]


def test_send_takes_the_connections_that_an_order_chooses(people, calls):
    if connection.vendor != "postgresql":
        pytest.skip("has no DISTINCT ON")
    contact = Contact.objects.create()
    Connection.objects.filter(pk__in=[person.pk for person in people(4)]).update(contact=contact)
    newest = Connection.objects.order_by("contact", "-identity").distinct("contact")
    send("news", newest)
    assert calls[0].identities == numbers(4)[3:]


def test_send_takes_one_connection(person, calls):
    send("news", person)
    assert calls[0].identities == [person.identity]


def test_an_outgoing_message_sends_itself(person, calls):
    OutgoingMessage(text="news", connections=[person]).send()
    assert [call.text for call in calls] == ["news"]


def test_send_asks_no_query_for_each_recipient(people):
    def queries(count):
        recipients = Connection.objects.filter(pk__in=[each.pk for each in people(count)])
        with CaptureQueriesContext(connection) as captured:
            msg = send("news", recipients)
        assert msg.database_message.transmissions.filter(status="S").count() == count
        return len(captured)

    queries(1)  # loads what is loaded once
    assert queries(50) == queries(150)


def test_a_broadcast_is_stored_in_chunks_and_sent_in_batches(person, calls, settings):
    backend = person.backend
    Connection.objects.bulk_create(
        Connection(backend=backend, identity=f"+1{n}") for n in range(1200)
    )
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 500
    msg = send("news", Connection.objects.filter(identity__startswith="+1"))
    assert [len(call.identities) for call in calls] == [500, 500, 200]
    msg.database_message.refresh_from_db()
    assert msg.database_message.status == "S"


def test_each_backend_is_called_with_its_own_recipients(people, calls, installed_backends):
    installed_backends["radios"] = installed_backends["phones"]
    send("news", people(2, "phones") + people(1, "radios"))
    assert sorted((call.backend, call.identities) for call in calls) == [
        ("phones", numbers(2)),
        ("radios", numbers(1)),
    ]


def test_the_message_that_send_returns_has_its_row(person):
    msg = send("news", [person])
    assert msg.database_message == Message.objects.get()
    assert msg.database_message.direction == "O"


def test_an_app_cancels_an_outgoing_message(person, calls):
    msg = send("cancel this", [person])
    assert not hasattr(msg, "database_message")
    assert (Message.objects.count(), calls) == (0, [])


@pytest.mark.parametrize("text", ["raise this", "dberror this"])
def test_an_app_that_raises_in_the_outgoing_phase_stops_nothing(person, calls, text):
    send(text, [person])
    assert [call.text for call in calls] == [text]
    assert Message.objects.get().status == "S"


def test_outgoing_apps_are_asked_in_the_opposite_order(person):
    router = get_router()
    asked = []

    class Witness:
        def __init__(self, name):
            self.name = name

        def outgoing(self, msg):
            asked.append(self.name)

    router.apps = [Witness("first"), Witness("last")]
    router.send_outgoing(router.new_outgoing_message(text="news", connections=[person]))
    assert asked == ["last", "first"]


def test_queue_message_stores_and_queues_nothing(people, calls):
    router = get_router()
    dbm = router.queue_message("O", people(2), "news", fields={"external_id": "7"})
    assert (dbm.status, dbm.external_id, dbm.fields) == ("Q", "7", {"external_id": "7"})
    assert list(dbm.transmissions.values_list("status", flat=True)) == ["Q", "Q"]
    assert calls == []


def test_group_transmissions_yields_backends_and_querysets(people):
    router = get_router()
    dbm = router.queue_message("O", people(3, "phones") + people(1, "radios"), "news")
    groups = list(router.group_transmissions(dbm.transmissions, batch_size=2))
    assert sorted(batch.count() for _, batch in groups) == [1, 1, 2]
    for backend_id, batch in groups:
        assert {row.connection.backend_id for row in batch} == {backend_id}
        assert [row.pk for row in batch] == sorted(row.pk for row in batch)
