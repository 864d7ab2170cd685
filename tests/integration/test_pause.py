"""Operators who pause a backend, and resume it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rapidsms.models import Backend
from rapidsms.router import receive

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, Batch, Message
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.recovery import recover
from tests.integration.stage import Stage, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(worker, monkeypatch, settings):
    """A sender; one recipient a call, a batch a call."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    return Stage(worker, monkeypatch)


def test_a_paused_backend_is_not_called_and_a_resumed_one_is(stage, worker, people, person):
    backend = person.backend
    operators.pause(backend)
    assert operators.describe(Backend.objects.get()).startswith("paused since ")
    message = stage.store(people(10))
    with worker.commit():
        receive("ping", person)
    worker.work()
    stage.play(seconds=100)
    assert (stage.calls, statuses(message)) == (0, 10 * "Q")
    Message.objects.filter(recover_at__isnull=False).update(recover_at=now())
    recover()
    assert worker.take() == []
    stage.play(seconds=1)
    assert stage.calls == 0
    operators.resume(backend)
    assert operators.describe(Backend.objects.get()) == "working"
    doorbells.publish_outbound(backend, message_id=0)
    worker.work()
    stage.play()
    assert (stage.calls, statuses(message)) == (11, 10 * "S")
    assert not Batch.objects.exists()


def test_nothing_is_held_of_a_paused_backend(stage, people, person):
    stage.store(people(10))
    operators.pause(person.backend)
    stage.receive("ping", person)
    stage.play()
    assert Batch.objects.count() == 11
    assert not Batch.objects.claimed().exists()


def test_a_pause_lets_other_backends_be(stage, people, person, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    operators.pause(person.backend)
    message = stage.store(people(3, "other"))
    stage.play()
    assert statuses(message) == "SSS"


def test_a_paused_backend_whose_circuit_is_open_is_resumed_as_a_whole(stage, people, person):
    message = stage.store(people(10))
    stage.play(lambda call: ConnectionRefusedError("nobody there"))
    operators.pause(person.backend)
    assert operators.describe(Backend.objects.get()).startswith("paused since ")
    operators.resume(person.backend)
    assert operators.describe(Backend.objects.get()) == "working"
    stage.wake()
    stage.play()
    assert statuses(message) == 10 * "S"


def test_what_is_for_a_later_date_still_is_after_a_pause(stage, people, person):
    later = stage.store(people(2))
    date = now().replace(year=now().year + 1)
    Message.objects.update(not_before=date)
    Batch.objects.update(due_at=date, ready_at=date)
    operators.pause(person.backend)
    operators.resume(person.backend)
    stage.wake()
    stage.play(seconds=5)
    assert (stage.calls, statuses(later)) == (0, "QQ")


def test_a_pause_says_by_whom_why_and_until_when(person):
    until = now() + timedelta(hours=1)
    operators.pause(person.backend, by="Amina", reason="the gateway moves", until=until)
    words = operators.describe(Backend.objects.get())
    assert words.startswith("paused by Amina since ")
    assert words.endswith(f"until {until:%Y-%m-%d %H:%M:%S} UTC (the gateway moves)")


def test_a_pause_ends_by_itself(stage, people, person):
    operators.pause(person.backend, until=now() + timedelta(seconds=60))
    message = stage.store(people(3))
    stage.play(seconds=5)
    assert stage.calls == 0
    assert recover().batches == 0
    BackendState.objects.update(paused_until=now())
    assert operators.describe(Backend.objects.get()) == "working"
    Batch.objects.update(ready_at=now() - timedelta(seconds=10))
    assert recover().batches == 1
    stage.wake()
    stage.play(seconds=5)
    assert statuses(message) == "SSS"


def test_a_pause_that_is_over_already_is_refused(person):
    with pytest.raises(ValueError, match="is over already"):
        operators.pause(person.backend, until=now() - timedelta(seconds=1))
    assert operators.describe(Backend.objects.get()) == "working"
