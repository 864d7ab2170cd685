"""What people do is kept: who, when, on what, how many, before and after, and why."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.urls import reverse

from rapidsms_db_router import bulk_actions, signals
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BulkAction, Message, Transmission
from rapidsms_db_router.operations import audit, export
from rapidsms_db_router.operations.listing import Wanted
from rapidsms_db_router.operations.models import AuditEntry, AuditSubject, Draft
from rapidsms_db_router.outbound import pausing

pytestmark = pytest.mark.django_db

ACTIONS = "router-actions"
SECRET = "0772000001"


def kept():
    return list(AuditEntry.objects.order_by("pk"))


def kinds():
    return [entry.kind for entry in kept()]


def test_a_pause_on_the_page_says_who_why_and_what_was_before(operator, person):
    client = operator("pause_backend", "see_personal")
    page = reverse("router-backend", args=[person.backend_id])
    client.post(page, {"do": "pause", "reason": f"call {SECRET}"})
    (entry,) = kept()
    assert (entry.kind, entry.by, entry.reason) == ("pause", "user0", f"call {SECRET}")
    assert ("paused", False, True) in entry.changes
    for shown in (page, reverse(ACTIONS)):
        text = client.get(shown).content.decode()
        assert "Backend paused" in text
        assert f"call {SECRET}" in text.split("Who did what")[-1]
        text = operator().get(shown).content.decode()
        assert SECRET not in text.split("Who did what")[-1]


def test_the_history_of_the_admin_shows_it_without_numbers(operator, person, client):
    page = reverse("router-backend", args=[person.backend_id])
    operator("pause_backend").post(page, {"do": "pause", "reason": f"call {SECRET}"})
    entry = LogEntry.objects.get()
    assert entry.user.username == "user0"
    assert (entry.object_id, entry.object_repr) == (str(person.backend_id), person.backend.name)
    assert entry.change_message == "Backend paused: call …"
    client.force_login(User.objects.create_superuser("admin"))
    history = reverse("admin:rapidsms_db_router_gateway_history", args=[person.backend_id])
    assert "Backend paused" in client.get(history).content.decode()


def test_limits_are_kept_as_they_were_and_are(person):
    operators.set_limits(person.backend, by="amina", rate="10/s")
    operators.set_limits(person.backend, by="amina", rate="300/s", concurrency=5)
    operators.set_limits(person.backend, by="amina", rate="300/s")
    first, second = kept()
    assert first.changes == [("rate", "", "10/s")]
    assert second.changes == [("rate", "10/s", "300/s"), ("concurrency", None, 5)]


def test_a_command_names_itself_and_the_user_of_the_system(person, monkeypatch, stored):
    monkeypatch.setenv("LOGNAME", "root")
    call_command("backends", pause=["phones"], reason="moves")
    call_command("backends", resume=["phones"])
    stored(person, status="E", error="no credit")
    call_command("resend_messages", all=True)
    call_command("recover_messages", dry_run=True)
    call_command("recover_messages")
    assert [(each.kind, each.by) for each in kept()] == [
        ("pause", "manage.py backends (root)"),
        ("resume", "manage.py backends (root)"),
        ("resend", "manage.py resend_messages (root)"),
        ("recover", "manage.py recover_messages (root)"),
    ]
    assert not LogEntry.objects.exists()


def test_a_command_runs_without_a_name_of_its_user(person, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("rapidsms_db_router.management.names.getuser", nobody)
    call_command("backends", pause=["phones"])
    (entry,) = kept()
    assert entry.by.startswith("manage.py backends (")


def test_a_bulk_action_is_kept_once_it_begins_with_its_messages_and_backend(
    operator, person, stored
):
    row = stored(person, status="E", error="no credit")
    rows = Transmission.objects.filter(pk=row.pk)
    prepared = bulk_actions.prepare("resend", rows, "amina", reason="credit was bought")
    assert kept() == []
    client = operator("resend_message")
    page = reverse("router-action", args=[prepared.pk])
    for _ in range(2):
        client.post(page, {"do": "start"})
    (entry,) = kept()
    # by whoever confirmed it
    assert (entry.kind, entry.by, entry.count) == ("resend", "user0", 1)
    assert entry.reason == "credit was bought"
    for found in ({"message": [row.message_id]}, {"backend": [person.backend_id]}):
        assert audit.of(found) == [entry]
    text = client.get(reverse("router-conversation", args=[person.pk])).content.decode()
    assert "Sent again" in text
    assert page in client.get(reverse(ACTIONS)).content.decode()


def test_a_bulk_action_that_is_stopped_before_it_begins_is_nothing_that_was_done(person, stored):
    stored(person, status="E")
    action = bulk_actions.prepare("resend", Transmission.objects.all(), "amina")
    bulk_actions.stop(action, by="amina")
    assert kept() == []


def test_a_bulk_action_that_is_stopped_under_way_is_kept(worker, person, stored, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 1)
    for _ in range(3):
        stored(person, status="E")
    action = bulk_actions.prepare("resend", Transmission.objects.all(), "amina")
    bulk_actions.start(action)
    bulk_actions.stop(action, by="bela")
    assert [(each.kind, each.by, each.count) for each in kept()] == [
        ("resend", "amina", 3),
        ("stop", "bela", 1),
    ]


def test_each_message_of_a_large_bulk_action_shows_it_and_no_message_between_them(
    worker, operator, people, stored, monkeypatch, installed_backends
):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    installed_backends["other"] = installed_backends["phones"]
    (other,) = people(1, "other")
    persons = [*people(8), other]
    rows = [
        stored(person, status="S" if place == 4 else "E") for place, person in enumerate(persons)
    ]
    action = bulk_actions.prepare("resend", Transmission.objects.all(), "amina")
    with worker.commit():
        bulk_actions.start(action)
    (entry,) = kept()
    assert audit.of({"message": [rows[0].message_id]}) == [entry]
    assert audit.of({"message": [rows[-1].message_id]}) == []
    worker.work()
    action.refresh_from_db()
    assert (action.state, action.changed) == ("done", 8)
    shown = [audit.of({"message": [row.message_id]}) for row in rows]
    assert shown == [[entry]] * 4 + [[]] + [[entry]] * 4
    for backend in (persons[0].backend_id, other.backend_id):
        assert audit.of({"backend": [backend]}) == [entry]
    assert audit.of({"message": [row.message_id for row in rows]}) == [entry]
    text = operator().get(reverse("router-conversation", args=[other.pk])).content.decode()
    assert "Sent again" in text
    # the two messages of the first chunk, one row for each further chunk, two backends, the action
    assert AuditSubject.objects.count() == 2 + 3 + 2 + 1


def test_a_chunk_that_cannot_be_kept_is_done_all_the_same(worker, person, stored, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 1)
    for _ in range(3):
        stored(person, status="E")
    monkeypatch.setattr(audit, "_of_bulk_action", lambda action: [("backend", None, "")])
    action = bulk_actions.prepare("resend", Transmission.objects.all(), "amina")
    with worker.commit():
        bulk_actions.start(action)
    worker.work()
    action.refresh_from_db()
    assert (action.state, action.changed) == ("done", 3)


def test_an_answer_is_kept_without_its_text(operator, person):
    client = operator("send", "see_personal")
    page = reverse("router-conversation", args=[person.pk])
    client.post(page, {"text": "Come on Friday."})
    (entry,) = kept()
    assert (entry.kind, entry.by, entry.count) == ("answer", "user0", 1)
    assert entry.after == {"message": Message.objects.get().pk}
    assert "Friday" not in str(AuditEntry.objects.values().get())
    assert "Answer sent" in client.get(page).content.decode()


def test_what_becomes_of_drafts_is_kept(operator, people):
    backend = people(2)[0].backend
    client = operator("broadcast")
    form = {"text": "Come.", "backend": backend.pk}
    for _ in range(2):
        client.post(reverse("router-write"), form)
    one, other = Draft.objects.order_by("pk").values_list("pk", flat=True)
    for _ in range(2):
        client.post(reverse("router-draft", args=[one]), {"do": "discard"})
    page = reverse("router-draft", args=[other])
    client.post(page, {"do": "test", "number": SECRET})
    client.post(page, {"do": "send"})
    assert kinds() == ["write", "write", "discard_draft", "test", "broadcast"]
    assert SECRET not in str(list(AuditEntry.objects.values()))
    assert kept()[-1].count == 3  # the number of the test is known by now


def test_a_paused_broadcast_shows_who_paused_it(operator, broadcast):
    pausing.pause(broadcast.pk, by="amina")
    pausing.pause(broadcast.pk, by="bela")
    pausing.go_on(broadcast.pk, by="amina")
    assert [(each.kind, each.by) for each in kept()] == [
        ("pause_message", "amina"),
        ("go_on_message", "amina"),
    ]
    text = operator().get(reverse("router-broadcast", args=[broadcast.pk])).content.decode()
    assert "Broadcast paused" in text


def test_an_export_is_kept_with_its_filters_and_its_number_of_rows(operator, person, stored):
    for _ in range(3):
        stored(person)
    client = operator("export", "see_personal")
    page = reverse("router-export", args=["csv"])
    lines = b"".join(client.get(page, {"search": person.identity}).streaming_content)
    assert lines.count(b"\n") == 4
    (entry,) = kept()
    assert (entry.kind, entry.by, entry.count) == ("export", "user0", 3)
    assert entry.after["personal"] is True
    assert person.identity not in str(entry.after)


def test_an_export_that_was_broken_off_is_kept(person, stored):
    stored(person)
    rows = export.rows(Wanted(), may_see=False, by="amina")
    next(rows)
    rows.close()
    (entry,) = kept()
    assert (entry.kind, entry.count) == ("export", None)


def test_what_was_rolled_back_is_not_kept(person):
    with pytest.raises(RuntimeError), transaction.atomic():
        operators.pause(person.backend, by="amina")
        assert kinds() == ["pause"]
        raise RuntimeError
    assert kept() == []


def test_an_entry_that_cannot_be_stored_leaves_the_action(person, monkeypatch):
    def full(**_):
        AuditEntry.objects.create(kind=None)

    monkeypatch.setattr(audit, "keep", full)
    operators.pause(person.backend, by="amina")
    assert operators.describe(person.backend).startswith("paused by amina")


def test_a_project_hears_of_it_too(person):
    told = []

    def hear(kind, by, subject, **_):
        told.append((kind, by, subject))

    signals.operator_acted.connect(hear)
    try:
        operators.pause(person.backend, by="amina")
    finally:
        signals.operator_acted.disconnect(hear)
    assert told == [("pause", "amina", person.backend)]


def test_the_page_of_actions_asks_as_many_queries_for_many_as_for_one(
    operator, person, stored, django_assert_max_num_queries
):
    client = operator()
    for _ in range(60):
        stored(person, status="E")
    for _ in range(3):
        action = bulk_actions.prepare("resend", Transmission.objects.all(), "amina")
        bulk_actions.start(action)
        Transmission.objects.update(status="E")
    for _ in range(60):
        operators.pause(person.backend, by="amina")
    with django_assert_max_num_queries(12):
        text = client.get(reverse(ACTIONS)).content.decode()
    assert text.count("Backend paused") == 50
    (older,) = [part for part in text.split('"') if part.startswith("?before=")]
    text = client.get(reverse(ACTIONS) + older).content.decode()
    assert text.count("Sent again") == 3
    assert BulkAction.objects.count() == 3
