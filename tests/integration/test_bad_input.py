"""What bad input gets: never an exception out of receive(), but for the caller's own mistakes."""

from __future__ import annotations

import datetime
import logging
import uuid
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.utils.timezone import now
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.errors import InvalidConnection
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound import outbox
from rapidsms_db_router.outbound.again import resend

pytestmark = pytest.mark.django_db

MEGABYTE = 2**20


def told(caplog, event):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("rapidsms_db_router") and record.getMessage().startswith(event)
    ]


# Texts

REPLACED = {
    "NUL": ("echo a\x00b", "echo a\ufffdb"),
    "high surrogate": ("echo \ud800", "echo \ufffd"),
    "low surrogate": ("echo \udfff!", "echo \ufffd!"),
}
KEPT = {
    "right to left": "echo مرحبا بالعالم",
    "emoji": "echo 👩🏽‍⚕️ 😀",
    "combining": "echo e\u0301\u0323",
    "control characters": "echo \x01\x1b[0m\x7f",
    "not a character": "echo \uffff\ufdd0",
    "quotes": "echo '; DROP TABLE rapidsms_db_router_message; --%s\\",
    "spaces": "  echo  x  ",
}


@pytest.mark.parametrize(("text", "stored"), REPLACED.values(), ids=REPLACED)
def test_a_text_that_no_database_can_hold_is_stored_with_replacements(
    person, calls, caplog, text, stored
):
    msg = receive(text, person)
    msg.dbm.refresh_from_db()
    assert (msg.dbm.text, msg.dbm.status) == (stored, "R")
    assert calls[0].text == stored.removeprefix("echo ")
    assert told(caplog, "message_cleaned") == [f"message_cleaned message={msg.dbm.pk}"]


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_a_strange_text_is_stored_as_it_is(person, caplog, text):
    msg = receive(text, person)
    msg.dbm.refresh_from_db()
    assert (msg.dbm.text, msg.dbm.status) == (text, "R")
    assert told(caplog, "message_cleaned") == []


def test_a_text_of_a_megabyte_is_stored_and_answered(person, calls):
    text = "ping " + "é" * MEGABYTE
    msg = receive(text, person)
    msg.dbm.refresh_from_db()
    assert msg.dbm.text == text
    assert len(calls[0].text) == len(text)


def test_an_empty_text_is_stored_and_processed(person, received):
    msg = receive("", person)
    msg.dbm.refresh_from_db()
    assert (msg.dbm.text, msg.dbm.status, len(received)) == ("", "R", 1)


@pytest.mark.parametrize(("text", "stored"), REPLACED.values(), ids=REPLACED)
def test_an_outgoing_text_that_no_database_can_hold_is_sent_with_replacements(
    person, calls, text, stored
):
    msg = send(text, [person])
    assert Message.objects.get(pk=msg.database_message.pk).text == calls[0].text == stored


@pytest.mark.parametrize(("text", "stored"), REPLACED.values(), ids=REPLACED)
def test_such_a_text_comes_through_a_worker_too(person, worker, calls, text, stored):
    with worker.commit():
        receive(text, person, fields={"text": text})
    worker.work()
    assert calls[0].text == stored.removeprefix("echo ")


# Fields

STRANGE_FIELDS = {
    "date": (datetime.date(2026, 1, 2), "2026-01-02"),
    "decimal": (Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    "model": (Backend(name="phones"), "phones"),
    "set": ({1}, "{1}"),
    "keys": ({1: "one", None: "none"}, {"1": "one", "None": "none"}),
    "nan": (float("nan"), "nan"),
    "NUL": ("a\x00b", "a\ufffdb"),
    "surrogate": ("\ud800", "\ufffd"),
    "huge": (10**30, str(10**30)),
}
SAID_IN_JSON = {"date", "decimal", "uuid"}


@pytest.mark.parametrize("name", STRANGE_FIELDS)
@pytest.mark.parametrize("way", ["eager", "worker"])
def test_fields_that_json_cannot_say_are_stored_as_their_str(
    request, person, received, caplog, name, way
):
    value, said = STRANGE_FIELDS[name]
    caplog.set_level(logging.WARNING)
    if way == "worker":
        worker = request.getfixturevalue("worker")
        with worker.commit():
            msg = receive("whatever", person, fields={name: value})
        worker.work()
    else:
        msg = receive("whatever", person, fields={name: value})
    msg.dbm.refresh_from_db()
    assert (msg.dbm.fields, msg.dbm.status) == ({name: said}, "R")
    assert received[0].fields == {name: said}
    assert bool(told(caplog, "message_cleaned")) is (name not in SAID_IN_JSON)


def test_fields_whose_keys_are_no_strings_are_stored(person):
    msg = receive("whatever", person, fields={1: "one", ("a", "b"): "two"})
    msg.dbm.refresh_from_db()
    assert msg.dbm.fields == {"1": "one", "('a', 'b')": "two"}


# External ids


def test_an_external_id_of_5000_characters_is_stored_cut(person, caplog, calls):
    msg = receive("ping", person, fields={"external_id": "x" * 5000})
    msg.dbm.refresh_from_db()
    assert msg.dbm.external_id == "x" * 1024
    assert msg.dbm.status == "R"
    assert told(caplog, "external_id_cut") == [f"external_id_cut message={msg.dbm.pk} length=5000"]


def test_external_ids_that_differ_past_the_cut_are_not_the_same(person):
    first = receive("ping", person, fields={"external_id": "x" * 2000 + "1"})
    second = receive("ping", person, fields={"external_id": "x" * 2000 + "2"})
    assert first.dbm != second.dbm


@pytest.mark.parametrize("external_id", [17, None, 1.5, "", "\x00", {"a": 1}, uuid.UUID(int=7)])
def test_a_strange_external_id_loses_no_message(person, external_id):
    msg = receive("ping", person, fields={"external_id": external_id})
    msg.dbm.refresh_from_db()
    assert msg.dbm.status == "R"
    assert "\x00" not in msg.dbm.external_id


# Recipients


@pytest.mark.parametrize("nobody", [list, Connection.objects.none, lambda: iter(())])
def test_send_to_nobody_is_stored_and_errored_and_queues_nothing(worker, calls, nobody):
    with worker.commit():
        msg = send("news", nobody())
    msg.database_message.refresh_from_db()
    assert (msg.database_message.status, msg.database_message.error) == ("E", "no recipients")
    assert worker.take() == []
    assert calls == []


def test_send_to_nobody_in_eager_mode_is_errored(calls):
    send("news", [])
    assert (Message.objects.get().status, calls) == ("E", [])


def unsaved():
    return Connection(identity="+254711111111", backend=Backend(name="phones"))


NO_CONNECTIONS = {
    "not saved": (unsaved, "254711111111 via phones"),
    "text": (lambda: "number", "'number'"),
    "number": (lambda: 254711111111, "254711111111"),
    "None": (lambda: None, "None"),
    "backend": (lambda: Backend(name="phones"), "phones"),
}


@pytest.mark.parametrize(("make", "named"), NO_CONNECTIONS.values(), ids=NO_CONNECTIONS)
@pytest.mark.parametrize("way", [receive, send], ids=["receive", "send"])
def test_what_is_no_saved_connection_is_a_value_error_that_names_it(person, way, make, named):
    with pytest.raises(ValueError, match=named) as caught:
        way("ping", make())
    assert isinstance(caught.value, InvalidConnection)
    assert Message.objects.count() == 0


@pytest.mark.parametrize(("make", "named"), NO_CONNECTIONS.values(), ids=NO_CONNECTIONS)
def test_one_that_is_no_saved_connection_spoils_the_list(person, calls, make, named):
    with pytest.raises(ValueError, match=named):
        send("news", [person, make()])
    assert (Message.objects.count(), calls) == (0, [])


def test_a_queryset_of_something_else_is_a_value_error(person):
    with pytest.raises(ValueError, match="Backend"):
        send("news", Backend.objects.all())
    assert Message.objects.count() == 0


def test_a_mistake_within_atomic_leaves_the_transaction_usable(person):
    with transaction.atomic():
        with pytest.raises(ValueError, match="not saved"):
            send("news", [unsaved()])
        send("good", [person])
    assert Message.objects.get().text == "good"


@pytest.mark.parametrize("shape", [list, iter], ids=["list", "generator"])
def test_the_same_connection_twice_gets_one_transmission(person, calls, shape):
    twin = Connection.objects.get(pk=person.pk)
    send("news", shape([person, twin, person]))
    assert Transmission.objects.count() == 1
    assert calls[0].identities == [person.identity]


# Duplicates


def test_the_same_message_posted_again_is_one_message_processed_once(person, received, calls):
    fields = {"external_id": "abc"}
    first = receive("ping", person, fields=fields)
    second = receive("ping", person, fields=fields)
    assert second.dbm == first.dbm
    assert second.id == first.id
    assert Message.objects.filter(direction="I").count() == 1
    assert (len(received), len(calls)) == (1, 1)


def test_a_duplicate_of_a_message_not_yet_processed_is_processed_once(
    person, worker, received, calls
):
    for _ in range(3):
        with worker.commit():
            receive("ping", person, fields={"external_id": "abc"})
    worker.work()
    assert (len(received), len(calls)) == (1, 1)


def test_a_duplicate_within_atomic_leaves_the_transaction_usable(person):
    with transaction.atomic():
        first = receive("ping", person, fields={"external_id": "abc"})
        second = receive("ping", person, fields={"external_id": "abc"})
        receive("other", person)
    assert first.dbm == second.dbm
    assert Message.objects.filter(direction="I").count() == 2


@pytest.mark.parametrize(
    ("text", "n", "external_id"),
    [("other", 0, "abc"), ("ping", 1, "abc"), ("ping", 0, "abd"), ("Ping", 0, "abc")],
    ids=["text", "connection", "external id", "case"],
)
def test_a_message_that_differs_in_anything_is_no_duplicate(people, text, n, external_id):
    connections = people(2)
    receive("ping", connections[0], fields={"external_id": "abc"})
    receive(text, connections[n], fields={"external_id": external_id})
    assert Message.objects.filter(direction="I").count() == 2


def test_without_an_external_id_people_may_repeat_themselves(person, calls):
    receive("ping", person)
    receive("ping", person)
    assert len(calls) == 2


NO_IDS = (None, 0, 0.0, False, True, "", " ", "0", "000", "None", "null", " NULL\n", "undefined")
NO_IDS += ("NaN", "nil", "n/a", "-", "[]", {}, "00000000-0000-0000-0000-000000000000")
NO_IDS += (-1, "-1", "unknown", "(not available)", "no id", "[object Object]", "empty", "%I", "%s")
NO_IDS += ("${id}", "{{ message.id }}", "{id}", "$ID", "<message_id>", "<%= id %>", "%ID%")


@pytest.mark.parametrize("external_id", NO_IDS)
def test_what_names_nothing_is_no_id_so_that_people_may_repeat_themselves(
    person, calls, external_id
):
    for _ in range(2):
        msg = receive("ping", person, fields={"external_id": external_id})
        assert msg.dbm.external_id == ""
        assert msg.fields["external_id"] == external_id
    assert len(calls) == 2


IDS = (1, "007", "0-0-1", "none-1", "nullable", "\u0967", "AAAA==", " 1", "off", "-2", "unknown-1")
IDS += ("{3F2504E0-4F89-11D3-9A0C-0305E82C3301}", "<CAF+1@mail.example.org>", "%41bc", "$1a")


@pytest.mark.parametrize("external_id", IDS)
def test_what_names_something_is_an_id(person, calls, external_id):
    for _ in range(2):
        receive("ping", person, fields={"external_id": external_id})
    assert len(calls) == 1


@pytest.mark.parametrize(("hours", "stored"), [(23, 1), (25, 2)])
def test_a_duplicate_comes_within_a_day(person, hours, stored):
    first = receive("ping", person, fields={"external_id": "abc"})
    Message.objects.update(date=now() - datetime.timedelta(hours=hours))
    second = receive("ping", person, fields={"external_id": "abc"})
    assert Message.objects.filter(direction="I").count() == stored
    assert (first.dbm == second.dbm) is (stored == 1)
    # and of the second there may be duplicates again
    third = receive("ping", person, fields={"external_id": "abc"})
    assert third.dbm == second.dbm


def test_outgoing_messages_are_no_duplicates(person, calls):
    for _ in range(2):
        send("news", [person], fields={"external_id": "abc"})
    assert len(calls) == 2


# Rows deleted between the commit and the task


def send_queued(worker, connections):
    with worker.commit():
        return send("news", connections).database_message


def test_a_connection_deleted_meanwhile_leaves_the_rest_of_its_batch(people, worker, calls):
    connections = people(3)
    message = send_queued(worker, connections)
    connections[1].delete()
    worker.work()
    assert calls[0].identities == [connections[0].identity, connections[2].identity]
    message.refresh_from_db()
    assert (message.status, message.error) == ("E", "1 of 3 transmissions errored")


def test_all_connections_deleted_meanwhile_leave_an_errored_message(people, worker, calls):
    message = send_queued(worker, people(2))
    Connection.objects.all().delete()
    worker.work()
    message.refresh_from_db()
    assert (message.status, message.error, calls) == ("E", "2 of 2 transmissions errored", [])


def test_a_backend_deleted_meanwhile_leaves_the_other_backends(people, worker, calls):
    message = send_queued(worker, people(2, "phones") + people(2, "radios"))
    Backend.objects.get(name="radios").delete()
    worker.work()
    message.refresh_from_db()
    assert [call.backend for call in calls] == ["phones"]
    assert (message.status, message.error) == ("E", "2 of 4 transmissions errored")


def test_a_backend_deleted_last_leaves_no_message_processing(people, worker, installed_backends):
    installed_backends["radios"] = installed_backends["phones"]
    message = send_queued(worker, people(2, "phones") + people(2, "radios"))
    tasks = worker.take()
    radios = Backend.objects.get(name="radios")
    tasks.sort(key=lambda task: task.kwargs["backend_id"] == radios.pk)
    worker.run(tasks[0])
    message.refresh_from_db()
    assert message.status == "P"
    radios.delete()
    worker.run(tasks[1])
    message.refresh_from_db()
    assert (message.status, message.error) == ("E", "2 of 4 transmissions errored")


@pytest.mark.parametrize("way", [receive, send], ids=["receive", "send"])
def test_a_message_deleted_meanwhile_ends_its_task_quietly(person, worker, calls, caplog, way):
    with worker.commit():
        way("ping", person)
    Message.objects.all().delete()
    worker.work()
    assert calls == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_sender_deleted_before_the_apps_ran_leaves_an_errored_message(person, worker, received):
    with worker.commit():
        msg = receive("ping", person)
    person.delete()
    worker.work()
    msg.dbm.refresh_from_db()
    assert (msg.dbm.status, received) == ("E", [])
    assert "no connection left" in msg.dbm.error


# Apps that raise


@pytest.mark.parametrize("text", ["raise now", "dberror now"])
@pytest.mark.parametrize("way", ["eager", "worker"])
def test_an_app_that_raises_leaves_its_message_errored_and_others_untouched(
    request, people, calls, text, way
):
    one, two = people(2)
    if way == "worker":
        worker = request.getfixturevalue("worker")
        with worker.commit():
            receive("ping", one)
            bad = receive(text, two)
            receive("ping again", one)
        worker.work()
    else:
        receive("ping", one)
        bad = receive(text, two)
        receive("ping again", one)
    bad.dbm.refresh_from_db()
    assert bad.dbm.status == bad.dbm.transmissions.get().status == "E"
    assert "Traceback" in bad.dbm.error
    assert bad.dbm.responses.count() == 0
    assert [call.text for call in calls] == ["pong", "pong again"]
    assert Message.objects.exclude(pk=bad.dbm.pk).exclude(status__in="RS").count() == 0


@pytest.mark.parametrize("word", ["raise", "dberror"])
def test_an_app_that_raises_within_the_callers_transaction_leaves_it_usable(person, word):
    with transaction.atomic():
        receive(word, person)
        receive("ping", person)
    assert list(Message.objects.order_by("pk").values_list("status", flat=True)) == ["E", "R", "S"]


def test_the_error_of_an_app_is_stored_whatever_is_in_it(person, settings):
    class Router(DatabaseRouter):
        def process_incoming_phases(self, msg):
            raise RuntimeError("\x00\ud800" + "x" * 50_000)

    settings.RAPIDSMS_ROUTER = Router()
    msg = receive("ping", person)
    msg.dbm.refresh_from_db()
    assert msg.dbm.status == "E"
    assert msg.dbm.error.startswith("RuntimeError: \ufffd\ufffdxxx")


# Backends out of the settings


def test_what_errored_without_its_backend_is_sent_once_it_is_back_and_told_to(
    people, worker, calls, settings, installed_backends
):
    message = send_queued(worker, people(2))
    settings.INSTALLED_BACKENDS = {}
    worker.work()
    message.refresh_from_db()
    assert message.status == "E"
    assert set(message.transmissions.values_list("status", "next_try")) == {("E", None)}
    settings.INSTALLED_BACKENDS = installed_backends
    with worker.commit():
        resend(message.transmissions.all())
        outbox.send([message.pk])
    worker.work()
    message.refresh_from_db()
    assert message.status == "S"
    assert len(calls[0].identities) == 2


@pytest.mark.django_db(transaction=True)
def test_what_an_old_table_of_mariadb_cannot_hold_is_replaced(person, caplog):
    if connection.vendor != "mysql":
        pytest.skip("is about MariaDB's utf8mb3")
    table = Message._meta.db_table
    change = f"ALTER TABLE {table} MODIFY text longtext CHARACTER SET %s NOT NULL"
    with connection.cursor() as cursor:
        cursor.execute(change % "utf8mb3 COLLATE utf8mb3_bin")
        try:
            dbm = receive("ping \N{GRINNING FACE}", person).dbm
        finally:
            Message.objects.all().delete()
            cursor.execute(change % "utf8mb4 COLLATE utf8mb4_bin")
    assert dbm.text == "ping \N{REPLACEMENT CHARACTER}"
    assert f"message_cleaned message={dbm.pk}" in caplog.text
