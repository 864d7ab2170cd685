"""What is old is blanked, then deleted, in the order of the settings, and nothing else is."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.files.storage import storages
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.router import send

from rapidsms_db_router import bulk_actions, signals
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import (
    Batch,
    BulkAction,
    Message,
    Part,
    RecoverySchedule,
    Transmission,
)
from rapidsms_db_router.operations.models import Broadcast, Hour, Sweep, Tally
from rapidsms_db_router.operations.retention import archives, erasing, sweeping
from rapidsms_db_router.operations.retention.rules import Rules
from rapidsms_db_router.operations.tallies import hours
from tests.integration.operations.conftest import DAYS
from tests.integration.operations.tallying import fill_all

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("retention")]

DAY = datetime.timedelta(days=1)


def pruned(**options):
    out = StringIO()
    call_command("prune_messages", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def left():
    return set(Transmission.objects.values_list("pk", flat=True))


def turns():
    for _ in range(20):
        Sweep.objects.update(next_look=now())
        signals.recovery_turn.send(sender=RecoverySchedule)


@pytest.mark.parametrize("by", ["command", "recovery"])
def test_texts_go_first_then_what_ended_well_then_what_failed(person, old, by):
    gone = [old(person, 400, Status.ERRORED), old(person, 100), old(person, 95, Status.DELIVERED)]
    gone.append(old(person, 100, Status.RECEIVED, Direction.INCOMING))
    kept = [old(person, 364, Status.ERRORED), old(person, 89), old(person, 29), old(person, 0)]
    fill_all()
    before = sorted(Tally.objects.values_list("outcome", "transmissions", "hour__start"))
    if by == "command":
        said = pruned()
        assert "2 messages blanked" in said and "4 messages with 4 transmissions deleted" in said
    else:
        turns()
    assert left() == {row.pk for row in kept}
    assert Message.objects.count() == 4
    blanked = Message.objects.exclude(blanked_at=None)
    assert {message.text for message in blanked} == {""}
    assert {message.pk for message in blanked} == {row.message_id for row in kept[:2]}
    fill_all()
    assert sorted(Tally.objects.values_list("outcome", "transmissions", "hour__start")) == before
    assert gone


def test_what_is_still_to_come_stays(person, old, worker):
    waiting = [
        old(person, 500, Status.QUEUED),
        old(person, 500, Status.PROCESSING),
        old(person, 500, Status.QUEUED, Direction.INCOMING),
        old(person, 500, Status.ERRORED, next_try=now() + DAY),
    ]
    with_batch, claimed, overdue = (old(person, 500) for _ in range(3))
    Batch.objects.create(
        message=with_batch.message, backend=person.backend, transmission_ids=[with_batch.pk]
    )
    Message.objects.filter(pk=overdue.message_id).update(recover_at=now() + DAY)
    late = old(person, 500)
    Transmission.objects.filter(pk=late.pk).update(updated=now() - DAY)
    fill_all()
    Hour.objects.update(is_final=True)
    pruned()
    assert left() == {row.pk for row in (*waiting, with_batch, overdue, late)}
    assert set(Message.objects.values_list("text", flat=True)) == {"x"}
    assert not Transmission.objects.filter(pk=claimed.pk).exists()


def test_a_message_goes_only_with_all_its_transmissions(people, person, old):
    row = old(person, 100)
    other = people(2)[1]
    sent = Transmission.objects.create(message=row.message, connection=other, status=Status.SENT)
    fill_all()
    Hour.objects.update(is_final=True)
    pruned()
    assert left() == {row.pk, sent.pk}


def test_an_hour_is_tallied_before_its_rows_go(person, old):
    old(person, 100)
    assert "1 messages stay until their hour is tallied" in pruned()
    assert len(left()) == 1
    fill_all()
    Hour.objects.update(is_final=False)
    pruned()
    assert len(left()) == 1
    Hour.objects.update(is_final=True)
    pruned()
    assert not left()


def test_an_import_leaves_the_tallies_of_what_is_gone(person, old):
    row = old(person, 100)
    fill_all()
    pruned()
    hours.at_import(last_id=row.pk + 10)
    fill_all()
    assert sum(Tally.objects.values_list("transmissions", flat=True)) == 1


def test_a_reply_outlives_what_it_answers(person, old):
    asked = old(person, 100, Status.RECEIVED, Direction.INCOMING)
    reply = old(person, 80, original=asked.message)
    Part.objects.create(transmission=asked, external_id="1")
    Broadcast.objects.create(message=asked.message, recipients=1)
    fill_all()
    pruned()
    [message] = Message.objects.all()
    assert (message.pk, message.in_response_to) == (reply.message_id, None)
    assert not Part.objects.exists() and not Broadcast.objects.exists()


def test_errors_keep_their_reasons_and_no_numbers(person, old):
    error = "HTTPError: HTTP 403 for +256772000001"
    row = old(person, 40, Status.ERRORED, error=error)
    inbound = old(person, 40, Status.ERRORED, Direction.INCOMING)
    Message.objects.filter(pk=inbound.message_id).update(error="ValueError: 'JOIN ali'\nTraceback")
    pruned()
    row.refresh_from_db()
    assert row.error == "HTTPError: HTTP 403 for …"
    assert Message.objects.get(pk=inbound.message_id).error == "ValueError: …"


def test_a_blanked_message_is_not_sent_again(person, old):
    row = old(person, 40, Status.ERRORED)
    inbound = old(person, 40, Status.ERRORED, Direction.INCOMING)
    pruned()
    for kind, rows in (
        (BulkAction.Kind.RESEND, Transmission.objects.filter(pk=row.pk)),
        (BulkAction.Kind.REPROCESS, Message.objects.filter(pk=inbound.message_id)),
    ):
        assert bulk_actions.prepare(kind, rows).total == 0


def test_a_dry_run_counts_what_is_done(person, old):
    for days in (400, 380, 200, 100, 95, 50, 40, 10):
        old(person, days)
        old(person, days, Status.ERRORED)
    fill_all()
    before = left()
    expected = re.findall(r"(\d+) (?=messages|transmissions)", pruned(dry_run=True))
    assert left() == before and not Message.objects.exclude(blanked_at=None).exists()
    assert re.findall(r"(\d+) (?=messages|transmissions)", pruned()) == expected
    assert expected == ["7", "7", "7"]


def test_a_large_message_goes_in_chunks(people, person, old, monkeypatch):
    row = old(person, 100, Status.ERRORED)
    row = old(person, 100)
    for other in people(26)[1:]:
        Transmission.objects.create(message=row.message, connection=other, status=Status.SENT)
    Transmission.objects.update(updated=row.date, date=row.date)
    fill_all()
    Hour.objects.update(is_final=True)
    monkeypatch.setattr(erasing, "CHUNK", 10)
    assert "1 messages with 26 transmissions deleted" in pruned()
    assert len(left()) == 1


class Clock:
    """A clock that is a second later at each look, and remembers how long it was slept by it."""

    def __init__(self):
        self.moment = 0.0
        self.slept = []

    def monotonic(self):
        self.moment += 1
        return self.moment

    def sleep(self, seconds):
        self.slept.append(seconds)


def test_a_pruning_leaves_time_to_messages_in_flight(person, old, worker, monkeypatch):
    monkeypatch.setattr(erasing, "time", clock := Clock())
    old(person, 100)
    fill_all()
    pruned()
    assert set(clock.slept) == {1}
    clock.slept.clear()
    old(person, 100)
    fill_all()
    with worker.commit():
        send("news", [person])
    Batch.objects.update(claim_token=uuid.uuid4(), recover_at=now() + DAY)
    pruned()
    assert set(clock.slept) == {9}


def test_a_turn_goes_on_where_the_last_has_stopped(person, old, monkeypatch):
    for _ in range(30):
        old(person, 100)
    fill_all()
    monkeypatch.setattr(sweeping, "FEWEST", 10)
    assert sweeping.take_turn(DAYS, seconds=0).messages == 0
    for _ in range(10):
        Sweep.objects.update(next_look=now())
        rules = Rules.of(DAYS)
        if not sweeping.Pruning(rules).sweep(0, 1):
            break
        sweeping.take_turn(DAYS, seconds=0.001)
    turns()
    assert not left()


def test_without_the_setting_nothing_goes(person, old, settings):
    settings.DB_ROUTER_RETENTION = None
    old(person, 5000)
    fill_all()
    with CaptureQueriesContext(connection) as captured:
        sweeping.at_recovery()
    assert not captured.captured_queries and len(left()) == 1
    with pytest.raises(CommandError, match="DB_ROUTER_RETENTION"):
        pruned()


@pytest.mark.parametrize(
    "wrong",
    [
        "30",
        {"text": "30"},
        {"text": True},
        {"delivered": 2},
        {"audit": 2},
        {"days": 3},
        {"archive": "a/b"},
    ],
)
def test_wrong_settings_are_named(settings, wrong):
    settings.DB_ROUTER_RETENTION = wrong
    [found] = [each for each in run_checks() if each.id == "rapidsms_db_router_operations.E002"]
    said = wrong if isinstance(wrong, str) else next(iter(wrong))
    assert repr(said) in found.msg


def test_archives_have_what_was_deleted(person, old, tmp_path):
    rows = [old(person, 100, text="Ñandú €"), old(person, 95, Status.DELIVERED)]
    alone = Message.objects.create(direction="O", text="nobody", status="E", error="no recipients")
    date = now() - 400 * DAY
    Message.objects.filter(pk=alone.pk).update(date=date, updated=date)
    fill_all()
    pruned(archive="sms")
    assert not left()
    [name] = archives.names()
    lines = list(archives.read(name))
    assert [line.get("transmission") for line in lines if "transmission" in line] == [
        row.pk for row in rows
    ]
    assert lines[0]["text"] == "Ñandú €" and lines[0]["number"] == person.identity
    assert lines[-1]["message"] == alone.pk
    out = StringIO()
    call_command("find_in_archives", f" {person.identity}", stdout=out, stderr=StringIO())
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["transmission"] for line in found] == [row.pk for row in rows]


def test_a_changed_archive_is_named(person, old):
    old(person, 100)
    fill_all()
    pruned(archive="sms")
    [name] = archives.names()
    with storages["router_archive"].open(name, "ab") as file:
        file.write(b"more")
    err = StringIO()
    with pytest.raises(CommandError, match="1 archives"):
        call_command("find_in_archives", "1", stdout=StringIO(), stderr=err)
    assert f"{name} does not fit its checksum" in err.getvalue()


def test_nothing_is_deleted_that_is_not_archived(person, old, monkeypatch):
    old(person, 100)
    fill_all()
    found = iter("ab")
    monkeypatch.setattr(archives, "_digest", lambda file: next(found))
    with pytest.raises(archives.ArchiveError):
        pruned(archive="sms")
    assert len(left()) == 1


def test_what_is_sent_again_meanwhile_stays(person, old, monkeypatch):
    row = old(person, 400, Status.ERRORED)
    fill_all()
    write = archives.Archive.write

    def resent(self, ids):
        name = write(self, ids)
        action = bulk_actions.prepare(BulkAction.Kind.RESEND, Transmission.objects.all())
        bulk_actions.start(action)
        return name

    monkeypatch.setattr(archives.Archive, "write", resent)
    assert "0 messages with 0 transmissions deleted" in pruned(archive="sms")
    assert left() == {row.pk}


def test_no_statement_reads_a_whole_table(person, old, people):
    if connection.vendor != "postgresql":
        pytest.skip("is about PostgreSQL's planner")
    date = now() - 100 * DAY
    messages = Message.objects.bulk_create(
        Message(direction="O", text="x", status="S", date=date) for _ in range(20_000)
    )
    Transmission.objects.bulk_create(
        Transmission(message=message, connection=person, status="S", date=date)
        for message in messages
    )
    Message.objects.filter(pk__gt=messages[10_000].pk).update(date=now())
    Message.objects.filter(pk__lte=messages[10_000].pk).update(updated=date)
    Transmission.objects.filter(message__lte=messages[10_000].pk).update(updated=date)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    fill_all()
    Hour.objects.update(is_final=True)
    with CaptureQueriesContext(connection) as captured:
        sweeping.take_turn(DAYS, seconds=0.5)
    assert Message.objects.count() < 20_000
    for query in captured.captured_queries:
        if not query["sql"].startswith(("SELECT", "UPDATE", "DELETE")):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row for (row,) in cursor.fetchall())
        whole = re.search(r"Seq Scan on \S*router_(transmission|message)\b", plan)
        assert not whole, f"{query['sql'][:300]}\n{plan}"
