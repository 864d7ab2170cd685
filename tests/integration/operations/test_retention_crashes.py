"""A pruning that dies at any point, and is run again, has deleted what it had to and no more."""

from __future__ import annotations

from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import Error

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import Batch, Message, Part, Transmission
from rapidsms_db_router.operations.models import Hour, Tally
from rapidsms_db_router.operations.retention import archives, erasing
from tests.faults.conftest import CRASH_POINTS
from tests.faults.crashing import Fault, at_each_point
from tests.integration.operations.tallying import fill_all, totals

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("retention")]


def prune():
    call_command("prune_messages", archive="old", stdout=StringIO(), stderr=StringIO())


@pytest.mark.parametrize("fault", Fault, ids=[fault.name.lower() for fault in Fault])
def test_a_pruning_can_end_anywhere(people, old, fault, monkeypatch, record_property):
    monkeypatch.setattr(erasing, "CHUNK", 3)
    person, *others = people(8)
    gone, kept, blanked = set(), set(), set()

    def prepare():
        for model in (Part, Batch, Transmission, Message, Tally, Hour):
            model.objects.all().delete()
        for name in archives.names():
            archives.remove(name)
        text = old(person, 100, Status.RECEIVED, Direction.INCOMING)
        large = old(person, 100, Status.SENT, original=text.message)
        rows = [
            Transmission(
                message=large.message, connection=each, status=Status.SENT, date=large.date
            )
            for each in others
        ]
        Transmission.objects.bulk_create(rows)
        Transmission.objects.filter(message=large.message).update(updated=large.date)
        failed = old(person, 400, Status.ERRORED, error="no such number: +254700000000")
        mine = Transmission.objects.filter(message__in=[text.message_id, large.message_id])
        gone.clear(), kept.clear(), blanked.clear()
        gone.update([*mine.values_list("pk", flat=True), failed.pk])
        young = [
            old(person, 60, Status.SENT),
            old(person, 364, Status.ERRORED, error="no such number: +254700000000"),
        ]
        blanked.update(row.message_id for row in young)
        kept.update(row.pk for row in (*young, old(person, 1, Status.SENT)))
        fill_all()
        before.update(totals())

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
        fill_all()
        assert totals() == before, run
    record_property(CRASH_POINTS, count)
    assert count > 5
