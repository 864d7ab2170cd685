"""A move that dies at any point, and is run again, has lost nothing and has nothing twice."""

from __future__ import annotations

import datetime
from contextlib import suppress

import pytest
from django.db import Error

from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.moving_in.dialects import dialect
from tests.faults.conftest import CRASH_POINTS
from tests.faults.crashing import Fault, at_each_point

AGE = datetime.timedelta(hours=1)


@pytest.mark.parametrize("fault", Fault, ids=[fault.name.lower() for fault in Fault])
def test_a_move_can_end_anywhere(old, move, worker, calls, fault, monkeypatch, record_property):
    monkeypatch.setattr(type(dialect()), "chunk", 3)
    monkeypatch.setattr(type(dialect()), "pause", 0.0)
    stored = [old.store(letters, age=AGE) for letters in ("S", "QS", "DE", "P", "EE")]
    stored += [old.store(letter, "I", age=AGE) for letter in "RQ"]
    held = sorted(old.connections[0].identity for _ in "QP")

    def clear():
        for model in (Batch, Transmission, Message):
            model.objects.all().delete()
        calls.clear()
        worker.take()

    def run_command():
        with suppress(Error):  # of what is only read: the operator runs it again
            move("--unfinished", "send")

    count = 0
    for run in at_each_point(run_command, fault, prepare=clear, everywhere=False):
        count += 1
        assert "All old rows are here." in move("--unfinished", "send"), run
        keys = [row.pk for row in old.transmissions.all()]
        assert sorted(Transmission.objects.values_list("pk", flat=True)) == sorted(keys), run
        assert Message.objects.filter(pk__in=[each.pk for each in stored]).count() == 7, run
        worker.work()
        worker.make_due()
        assert sorted(to for call in calls for to in call.identities) == held, run
        assert set(old.transmissions.values_list("status", flat=True)) == set("SQDEPR")
    record_property(CRASH_POINTS, count)
    assert count
