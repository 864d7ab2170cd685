"""A project hears once that a gateway is out of order, and that messages wait too long."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, Batch, Message
from rapidsms_db_router.recovery import backlog
from tests.integration.stage import Stage, state
from tests.service.hearing import hearing

pytestmark = pytest.mark.django_db

MINUTE = datetime.timedelta(minutes=1)
NAMES = ("circuit_opened", "circuit_closed", "backlog_old")


def refused(call):
    return ConnectionRefusedError("nobody there")


@pytest.fixture
def told():
    """The signals sent so far: their names, and what came with them."""
    with hearing(*NAMES) as told:
        yield told


def names(told):
    return [name for name, _ in told]


def test_a_circuit_that_opens_and_closes_is_told_once_each_over_all_senders(
    worker, monkeypatch, installed_backends, people, told, django_capture_on_commit_callbacks
):
    installed_backends["phones"]["router.db.batch_size"] = 1
    installed_backends["phones"]["router.db.concurrency"] = 8
    with django_capture_on_commit_callbacks(execute=True):
        stage = Stage(worker, monkeypatch, senders=2)
        stage.store(people(40))
        stage.play(refused)
    assert names(told) == ["circuit_opened"]
    opened = told[0][1]
    assert opened["backend_name"] == "phones"
    assert "nobody there" in opened["reason"] or "Refused" in opened["reason"]
    assert opened["since"] < opened["until"]
    for _ in range(3):  # trials that fail
        with django_capture_on_commit_callbacks(execute=True):
            stage.clock.go_on((state().open_until - now()).total_seconds())
            stage.play(refused, seconds=1)
    assert names(told) == ["circuit_opened"]
    with django_capture_on_commit_callbacks(execute=True):
        stage.clock.go_on((state().open_until - now()).total_seconds())
        stage.play(seconds=1)
    assert names(told) == ["circuit_opened", "circuit_closed"]
    closed = told[1][1]
    assert (closed["backend_name"], closed["since"]) == ("phones", opened["since"])
    assert closed["since"] < closed["until"]


def out_of_order(person):
    BackendState.objects.create(
        backend=person.backend, failures=3, opened_at=now(), open_until=now() + 60 * MINUTE
    )


def test_a_circuit_that_an_operator_closes_is_told(
    person, told, django_capture_on_commit_callbacks
):
    out_of_order(person)
    with django_capture_on_commit_callbacks(execute=True):
        operators.resume(person.backend)
        assert told == []
        operators.resume(person.backend)
    assert names(told) == ["circuit_closed"]


def test_nothing_is_told_of_what_is_rolled_back(person, told, django_capture_on_commit_callbacks):
    out_of_order(person)
    capture = django_capture_on_commit_callbacks(execute=True)
    with capture, pytest.raises(RuntimeError), transaction.atomic():
        operators.resume(person.backend)
        raise RuntimeError
    assert told == []


@pytest.fixture
def waiting(person):
    """A batch that has waited for eleven minutes, though it may be sent."""
    message = Message.objects.create(direction="O", text="x", status="Q", date=now() - 11 * MINUTE)
    return Batch.objects.create(
        message=message,
        backend=person.backend,
        transmission_ids=[1],
        due_at=message.date,
        ready_at=now() - MINUTE,
    )


def test_an_old_backlog_is_told_once_until_it_is_over(waiting, told):
    for _ in range(3):
        backlog.follow()
    assert names(told) == ["backlog_old"]
    assert told[0][1]["backend_name"] == "phones"
    assert told[0][1]["since"] == waiting.due_at
    Batch.objects.update(due_at=now() - 9 * MINUTE)
    backlog.follow()
    Batch.objects.update(due_at=now() - 11 * MINUTE)
    backlog.follow()
    backlog.follow()
    assert names(told) == ["backlog_old", "backlog_old"]


def test_what_need_not_be_sent_yet_is_no_backlog(waiting, told):
    Batch.objects.update(due_at=now() - 9 * MINUTE)  # its date has come since
    backlog.follow()
    Batch.objects.update(due_at=now() - 11 * MINUTE, ready_at=now() + MINUTE)
    backlog.follow()
    Batch.objects.update(ready_at=now(), paused=True)
    backlog.follow()
    Batch.objects.update(paused=False)
    operators.pause(Batch.objects.get().backend)
    backlog.follow()
    assert told == []


def test_a_backlog_of_which_nobody_hears_costs_nothing(waiting, django_assert_num_queries):
    with django_assert_num_queries(0):
        backlog.follow()
