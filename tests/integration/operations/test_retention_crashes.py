"""A pruning that dies at any point, and is run again, has deleted what it had to and no more."""

from __future__ import annotations

import datetime
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import Error

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import Batch, Message, Part, Transmission
from rapidsms_db_router.operations.models import Hour, Tally
from rapidsms_db_router.operations.retention import archives, erasing
from rapidsms_db_router.operations.tallies import filling
from tests.faults.conftest import CRASH_POINTS
from tests.faults.crashing import Fault, at_each_point

DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def _retention(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(erasing, "CHUNK", 3)
    settings.DB_ROUTER_RETENTION = {"text": 30, "delivered": 90, "failed": 365}
    settings.STORAGES = {
        **settings.STORAGES,
        "router_archive": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }


def prune():
    call_command("prune_messages", archive="old", stdout=StringIO(), stderr=StringIO())


def tallies():
    """Return how many transmissions are tallied, by outcome."""
    while filling.fill():
        pass
    counts: dict[str, int] = {}
    for outcome, number in Tally.objects.values_list("outcome", "transmissions"):
        counts[outcome] = counts.get(outcome, 0) + number
    return counts


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", Fault, ids=[fault.name.lower() for fault in Fault])
def test_a_pruning_can_end_anywhere(people, stored, fault, record_property):
    person, *others = people(8)
    gone, kept, blanked = set(), set(), set()

    def store(days, status, *args, **columns):
        row = stored(person, days * DAY, status, *args, text="secret", **columns)
        Transmission.objects.filter(pk=row.pk).update(updated=row.date)
        Message.objects.filter(pk=row.message_id).update(updated=row.date)
        return row

    def prepare():
        for model in (Part, Batch, Transmission, Message, Tally, Hour):
            model.objects.all().delete()
        for name in archives.names():
            archives.remove(name)
        text = store(100, Status.RECEIVED, Direction.INCOMING)
        large = store(100, Status.SENT, original=text.message)
        rows = [
            Transmission(
                message=large.message, connection=each, status=Status.SENT, date=large.date
            )
            for each in others
        ]
        Transmission.objects.bulk_create(rows)
        Transmission.objects.filter(message=large.message).update(updated=large.date)
        failed = store(400, Status.ERRORED, error="no such number: +254700000000")
        mine = Transmission.objects.filter(message__in=[text.message_id, large.message_id])
        gone.clear(), kept.clear(), blanked.clear()
        gone.update([*mine.values_list("pk", flat=True), failed.pk])
        young = [
            store(60, Status.SENT),
            store(364, Status.ERRORED, error="no such number: +254700000000"),
        ]
        blanked.update(row.message_id for row in young)
        kept.update(row.pk for row in (*young, store(1, Status.SENT)))
        before.update(tallies())

    def run_command():
        with suppress(Error):  # the operator runs it again
            prune()

    count, before = 0, {}
    for run in at_each_point(run_command, fault, prepare, everywhere=False):
        count += 1
        prune()
        assert set(Transmission.objects.values_list("pk", flat=True)) == kept, run
        assert Message.objects.count() == len(kept), run
        found = Message.objects.exclude(blanked_at=None)
        assert set(found.values_list("pk", flat=True)) == blanked, run
        assert set(found.values_list("text", flat=True)) == {""}, run
        assert not Transmission.objects.filter(error__contains="2547").exists(), run
        lines = [line for name in archives.names() for line in archives.read(name)]
        # of a message whose transmissions had gone before, a line of its own is left
        assert {line.get("transmission") for line in lines} - {None} == gone, run
        assert tallies() == before, run
    record_property(CRASH_POINTS, count)
    assert count > 5
