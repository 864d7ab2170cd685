"""Old audit entries and ended bulk actions go after the days that the settings say."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rapidsms.router import send

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, BulkAction, Transmission
from rapidsms_db_router.operations.models import AuditEntry, AuditSubject, Sweep
from rapidsms_db_router.operations.retention import auditing
from rapidsms_db_router.outbound import pausing

pytestmark = pytest.mark.django_db

DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def _days(settings):
    settings.DB_ROUTER_RETENTION = {"audit": 100}


def make_old(days=101):
    """Have all that was done so far be of some days ago."""
    date = now() - days * DAY
    AuditEntry.objects.update(date=date)
    BulkAction.objects.filter(finished__isnull=False).update(finished=date)


def pruned(**options):
    out = StringIO()
    call_command("prune_messages", stdout=out, **options)
    return out.getvalue().splitlines()


def turn():
    """Have recovery look for once."""
    Sweep.objects.update(next_look=now())
    auditing.at_recovery()


def kinds():
    return list(AuditEntry.objects.order_by("pk").values_list("kind", flat=True))


def resent(*rows):
    action = bulk_actions.prepare(
        "resend", Transmission.objects.filter(pk__in=[row.pk for row in rows]), "amina"
    )
    bulk_actions.start(action)
    return action


@pytest.fixture
def done(person, stored):
    """A bulk action that is done, and a pause; both are old, and a resumption is new."""
    action = resent(*(stored(person, status="E") for _ in range(3)))
    operators.pause(person.backend, by="amina")
    make_old()
    operators.resume(person.backend, by="amina")
    return action


def test_old_entries_and_bulk_actions_go_and_young_ones_stay(done, person, operator):
    dry = pruned(dry_run=True)
    assert dry == ["2 audit entries and 1 bulk actions would be deleted."]
    assert kinds() == ["resend", "pause", "resume"]
    assert pruned() == ["2 audit entries and 1 bulk actions deleted."]
    assert kinds() == ["resume"]
    assert not BulkAction.objects.exists()
    assert AuditSubject.objects.get().row == person.backend_id
    assert pruned() == ["0 audit entries and 0 bulk actions deleted."]
    text = operator().get(reverse("router-actions")).content.decode()
    assert "Backend called again" in text and "Backend paused" not in text


def test_recovery_prunes_at_its_turn_and_not_without_the_setting(done, settings):
    settings.DB_ROUTER_RETENTION = {"text": 30}
    with CaptureQueriesContext(connection) as captured:
        auditing.at_recovery()
    assert not captured.captured_queries
    settings.DB_ROUTER_RETENTION = {"audit": 100}
    turn()
    assert kinds() == ["resume"]
    with CaptureQueriesContext(connection) as captured:
        auditing.at_recovery()
    assert len(captured) == 1, "it waits for some minutes"


def test_a_turn_goes_on_where_the_last_one_has_stopped(person, monkeypatch):
    monkeypatch.setattr(auditing, "WINDOW", 1)
    for _ in range(3):
        operators.pause(person.backend, by="amina")
    make_old()
    counts = []
    for _ in range(4):
        Sweep.objects.update(next_look=now())
        auditing.take_turn(100, seconds=0)
        counts.append(AuditEntry.objects.count())
    assert counts == [2, 1, 0, 0]


def test_what_is_under_way_stays_until_it_has_ended(worker, person, stored, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 1)
    with worker.commit():
        action = resent(*(stored(person, status="E") for _ in range(3)))
    worker.make_due()  # what it has queued so far is sent, and its task is not taken yet
    assert not Batch.objects.exists()
    make_old()
    assert pruned(dry_run=True) == ["0 audit entries and 0 bulk actions would be deleted."]
    turn()
    assert (kinds(), BulkAction.objects.count()) == (["resend"], 1)
    bulk_actions.stop(action, by="amina")
    make_old()
    Sweep.objects.update(begun=now() - 2 * DAY)  # once a day it begins anew
    turn()
    turn()
    assert (kinds(), BulkAction.objects.count()) == ([], 0)


def test_entries_of_messages_that_wait_stay(worker, people, stored, monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 1)
    with worker.commit():
        paused = send("later", people(3)).database_message
    pausing.pause(paused.pk, by="amina")
    # the second message is of a further chunk, and waits again
    action = resent(*(stored(person, status="E") for person in people(2)))
    with worker.commit():
        bulk_actions.go_on(action.pk)
    make_old()
    assert pruned(dry_run=True) == ["0 audit entries and 0 bulk actions would be deleted."]
    assert pruned() == ["0 audit entries and 0 bulk actions deleted."]
    worker.work()
    assert pruned() == ["1 audit entries and 1 bulk actions deleted."]
    assert kinds() == ["pause_message"]
    with worker.commit():
        pausing.go_on(paused.pk, by="amina")
    worker.work()
    make_old()
    assert pruned() == ["2 audit entries and 0 bulk actions deleted."]
    assert kinds() == []


def test_a_bulk_action_that_a_younger_entry_names_stays(worker, person, stored):
    with worker.commit():
        action = resent(stored(person, status="E"))
    worker.work()
    make_old()
    AuditEntry.objects.create(kind="stop", by="bela").subjects.create(
        kind="bulk_action", row=action.pk
    )
    before = pruned(dry_run=True)
    assert before == ["1 audit entries and 0 bulk actions would be deleted."]
    assert pruned() == ["1 audit entries and 0 bulk actions deleted."]
    assert BulkAction.objects.count() == 1


def test_many_rows_go_in_small_statements(person, monkeypatch):
    monkeypatch.setattr(auditing, "CHUNK", 10)
    operators.pause(person.backend, by="amina")
    entry = AuditEntry.objects.get()
    AuditSubject.objects.bulk_create(
        AuditSubject(entry=entry, kind="connection", row=number) for number in range(94)
    )
    make_old()
    with CaptureQueriesContext(connection) as captured:
        pruned()
    deleted = [each for each in captured.captured_queries if each["sql"].startswith("DELETE")]
    assert len(deleted) == 10 + 1
    assert not AuditSubject.objects.exists()
