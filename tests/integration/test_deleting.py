"""Who was written to stays readable when a contact, a connection or a backend is deleted."""

from __future__ import annotations

import datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rapidsms.models import Backend, Connection, Contact
from rapidsms.router import receive, send

from rapidsms_db_router import deleting, reports
from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, FormerConnection, Gateway, Message, Transmission
from rapidsms_db_router.recovery import recover

pytestmark = pytest.mark.django_db


@pytest.fixture
def history(sent, people):
    """Two people of one backend who were sent a message; one of them is a contact."""
    message, rows = sent(2)
    contact = Contact.objects.create(name="Amina")
    Connection.objects.filter(pk=rows[0].connection_id).update(contact=contact)
    return message, rows


@pytest.fixture
def admin(db):
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


def gone():
    return sorted(FormerConnection.objects.values_list("identity", "backend"))


@pytest.mark.parametrize(
    "delete",
    [
        lambda row: row.connection.delete(),
        lambda row: Connection.objects.filter(pk=row.connection_id).delete(),
        lambda row: row.connection.contact.delete(),
        lambda row: Contact.objects.all().delete(),
    ],
    ids=["connection", "connections", "contact", "contacts"],
)
def test_a_deleted_connection_stays_readable(history, delete):
    message, rows = history
    identity = rows[0].connection.identity
    delete(Transmission.objects.get(pk=rows[0].pk))
    row = Transmission.objects.get(pk=rows[0].pk)
    assert row.connection is None and row.connection_id
    assert (row.identity, row.backend_name, row.status) == (identity, "phones", Status.SENT)
    joined = Transmission.objects.select_related("connection__backend", "former").get(pk=row.pk)
    assert (joined.connection, joined.identity) == (None, identity)
    assert gone() == [(identity, "phones")]
    assert message.set_status() == Status.SENT


@pytest.mark.parametrize(
    "delete",
    [
        lambda backend: backend.delete(),
        lambda backend: Gateway.objects.get(pk=backend.pk).delete(),
        lambda backend: Backend.objects.filter(pk=backend.pk).delete(),
        deleting.delete_backend,
    ],
    ids=["backend", "gateway", "backends", "function"],
)
def test_a_deleted_backend_stays_readable(history, worker, delete, people):
    with worker.commit():
        waiting = send("later", people(2), not_before=now() + datetime.timedelta(days=1))
    delete(Backend.objects.get(name="phones"))
    assert not Connection.objects.exists() and not Backend.objects.filter(name="phones").exists()
    assert len(gone()) == 2 and {name for _, name in gone()} == {"phones"}
    assert {row.backend_name for row in Transmission.objects.all()} == {"phones"}
    given_up = Transmission.objects.filter(message=waiting.database_message)
    assert set(given_up.values_list("status", "error")) == {("E", "connection deleted")}
    assert not Batch.objects.exists()
    assert Message.objects.get(pk=waiting.database_message.pk).status == "E"


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with rows of the project"])
@pytest.mark.parametrize("count", [0, 1, 3, 6, 7])
def test_the_connections_of_a_backend_are_deleted_in_chunks(
    people, monkeypatch, caplog, count, alone
):
    monkeypatch.setattr(deleting, "LARGE", 3)
    monkeypatch.setattr(deleting, "CHUNK", 3)
    monkeypatch.setattr(deleting, "_stands_alone", lambda: alone)
    caplog.set_level("INFO", deleting.__name__)
    kept = people(2, backend="others")
    deleted = people(count)
    backend, _ = Backend.objects.get_or_create(name="phones")
    with CaptureQueriesContext(database) as queries:
        assert deleting.delete_backend(backend) == count
    assert [record.getMessage() for record in caplog.records] == [
        f"backend_deleted connections={count}"
    ]
    assert set(Connection.objects.all()) == set(kept)
    assert gone() == [(each.identity, "phones") for each in deleted]
    keys = [each["sql"] for each in queries.captured_queries if "ROW_NUMBER" in each["sql"]]
    assert len(keys) == 1


def test_what_waits_for_a_deleted_connection_is_given_up_and_others_get_theirs(
    worker, people, person
):
    with worker.commit():
        alone = send("a", [person], not_before=now() + datetime.timedelta(days=1))
        both = send("b", people(2), not_before=now() + datetime.timedelta(days=1))
    person.delete()
    assert not Batch.objects.filter(message=alone.database_message).exists()
    Message.objects.update(not_before=None)
    worker.work()
    worker.make_due()
    states = Transmission.objects.order_by("pk").values_list("message", "status", "error")
    assert list(states) == [
        (alone.database_message.pk, "E", "connection deleted"),
        (both.database_message.pk, "E", "connection deleted"),
        (both.database_message.pk, "S", ""),
    ]
    assert set(Message.objects.values_list("status", flat=True)) == {"E"}


def test_what_is_stored_just_before_a_deletion_is_given_up(worker, person):
    with worker.commit():
        message = send("a", [person]).database_message
    Connection.objects.filter(pk=person.pk)._raw_delete("default")
    worker.work()
    worker.make_due()
    Message.objects.update(recover_at=now() - datetime.timedelta(seconds=1))
    recover()
    row = message.transmissions.get()
    assert (row.status, row.error) == ("E", "connection deleted")
    assert Message.objects.get(pk=message.pk).status == "E"


def test_an_inbound_message_of_a_deleted_connection_is_errored(worker, person):
    with worker.commit():
        receive("hello", person)
    person.delete()
    worker.work()
    message = Message.objects.get(direction="I")
    assert message.status == "E" and "no connection left" in message.error


def test_a_report_about_a_deleted_connection_changes_nothing(history):
    message, rows = history
    identity = rows[0].connection.identity
    rows[0].connection.delete()
    reports.record("delivered", message_id=message.pk, identity=identity)
    assert Transmission.objects.get(pk=rows[0].pk).status == Status.SENT


def test_the_admin_deletes_and_lists_no_transmissions(history, admin):
    _, rows = history
    contact = Contact.objects.get()
    for model, pk in (("contact", contact.pk), ("connection", rows[1].connection_id)):
        page = reverse(f"admin:rapidsms_{model}_delete", args=(pk,))
        with CaptureQueriesContext(database) as captured:
            answer = admin.get(page)
        assert not any("router_transmission" in each["sql"] for each in captured.captured_queries)
        assert "Yes, I" in answer.content.decode()
        assert admin.post(page, {"post": "yes"}).status_code == 302
    assert not Connection.objects.exists() and len(gone()) == 2


def test_the_admin_counts_what_goes_with_a_backend(history, admin):
    backend = Backend.objects.get(name="phones")
    page = reverse("admin:rapidsms_backend_delete", args=(backend.pk,))
    content = admin.get(page).content.decode()
    assert "2 connections" in content and "+2547" not in content
    assert admin.post(page, {"post": "yes"}).status_code == 302
    assert not Connection.objects.exists() and len(gone()) == 2


def test_the_admin_shows_and_finds_whom_it_was(history, admin):
    _, rows = history
    identity = rows[0].connection.identity
    rows[0].connection.delete()
    page = reverse("admin:rapidsms_db_router_transmission_changelist")
    assert f"{identity} via phones" in admin.get(page).content.decode()
    assert f"{identity} via phones" in admin.get(page, {"q": identity}).content.decode()
    change = reverse("admin:rapidsms_db_router_transmission_change", args=(rows[0].pk,))
    assert f"{identity} via phones" in admin.get(change).content.decode()


def test_the_pages_show_and_find_whom_it_was(history, admin):
    message, rows = history
    identity, pk = rows[0].connection.identity, rows[0].connection_id
    rows[0].connection.delete()
    for address in (
        reverse("router-broadcast", args=(message.pk,)),
        reverse("router-messages"),
        reverse("router-messages") + f"?search={identity[1:]}",
        reverse("router-messages") + "?backend=phones",
        reverse("router-conversation", args=(pk,)),
    ):
        assert identity in admin.get(address).content.decode(), address
    exported = b"".join(admin.get(reverse("router-export", args=("csv",))).streaming_content)
    assert identity.encode() in exported
    assert admin.post(reverse("router-conversation", args=(pk,)), {"text": "x"}).status_code == 404


def test_a_viewer_sees_no_number_of_a_deleted_connection(history):
    _, rows = history
    identity = rows[0].connection.identity
    rows[0].connection.delete()
    viewer = User.objects.create_user("viewer")
    viewer.user_permissions.set(Permission.objects.filter(codename="view_message"))
    browser = Client()
    browser.force_login(viewer)
    content = browser.get(reverse("router-messages")).content.decode()
    assert identity not in content and "…" + identity[-3:] in content
