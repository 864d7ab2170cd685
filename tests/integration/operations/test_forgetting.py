"""One person is erased everywhere, and others keep what is theirs."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from rapidsms.models import Connection, Contact
from rapidsms.router import send

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import (
    EarlyReport,
    FormerConnection,
    Message,
    Part,
    Transmission,
)
from rapidsms_db_router.operations.models import Draft
from rapidsms_db_router.operations.retention import archives

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.STORAGES = {
        **settings.STORAGES,
        "router_archive": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }


@pytest.fixture
def amina(people, worker, stored):
    """The first of two people, of whom there is something everywhere."""
    mine, other = people(2)
    contact = Contact.objects.create(name="Amina")
    Connection.objects.filter(pk=mine.pk).update(contact=contact)
    error = f"HTTPError: HTTP 403 for {mine.identity}"
    row = stored(mine, status=Status.ERRORED, text="my secret", external_id="7", error=error)
    Part.objects.create(transmission=row, external_id="7a")
    stored(mine, status=Status.RECEIVED, direction=Direction.INCOMING, text="JOIN")
    stored(other, text="to another")
    with worker.commit():
        later = now() + datetime.timedelta(days=1)
        send("to both", [mine, other], not_before=later)
    EarlyReport.objects.create(external_id="9", identity=mine.identity[1:], outcome="delivered")
    Draft.objects.create(
        text="x", backend=mine.backend, author="a", numbers=[mine.identity, other.identity]
    )
    lines = [{"number": mine.identity, "text": "old"}, {"number": other.identity, "text": "kept"}]
    archives.store("router-archives/sms.jsonl.gz", lines)
    return mine, other, contact


def forget(said, **options):
    out = StringIO()
    call_command("forget_contact", said, yes=True, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


@pytest.mark.parametrize("by", ["contact", "number"])
def test_a_person_is_erased_everywhere(amina, worker, by):
    mine, other, contact = amina
    said = forget(str(contact.pk) if by == "contact" else mine.identity[1:])
    assert not Contact.objects.exists()
    assert list(Connection.objects.all()) == [other]
    assert FormerConnection.objects.get().identity == ""
    texts = set(Message.objects.values_list("text", flat=True))
    assert texts == {"", "to another", "to both"}
    rows = Transmission.objects.filter(connection=mine.pk)
    assert {row.identity for row in rows} == {""}
    assert not any(mine.identity in row.error for row in rows)
    assert not Part.objects.exists() and not EarlyReport.objects.exists()
    assert not rows.exclude(external_id=None).exists()
    assert Draft.objects.get().numbers == [other.identity]
    [name] = archives.names()
    archives.check(name)
    assert [line["text"] for line in archives.read(name)] == ["kept"]
    assert "texts: 2 erased" in said and "archived lines: 1 erased" in said
    Message.objects.update(not_before=None)
    worker.make_due()
    states = Transmission.objects.filter(message__text="to both").order_by("pk")
    assert list(states.values_list("status", "error")) == [("E", "person forgotten"), ("S", "")]


def test_a_dry_run_says_what_is_erased_and_erases_nothing(amina):
    mine, _, _ = amina
    said = forget(mine.identity, dry_run=True)
    assert Message.objects.filter(text="my secret").exists() and Contact.objects.exists()
    assert said.replace("would be erased", "erased") == forget(mine.identity)


def test_nobody_is_forgotten_without_a_yes(amina, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was erased"):
        call_command("forget_contact", amina[0].identity, stdout=StringIO())
    assert Contact.objects.exists()


def test_a_person_is_forgotten_whose_connection_was_deleted_before(amina):
    mine, _, contact = amina
    contact.delete()
    forget(mine.identity)
    assert FormerConnection.objects.get().identity == ""
    assert not Message.objects.filter(text__in=["my secret", "JOIN"]).exists()


def test_an_unknown_person_is_named(db):
    with pytest.raises(CommandError, match="'077'"):
        forget("077")
