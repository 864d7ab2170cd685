"""Whose turn it is: a broadcast goes on by itself, and nobody waits behind the whole of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app
from rapidsms.router import receive, send

from rapidsms_db_router import delivery
from rapidsms_db_router.clock import now
from rapidsms_db_router.delivery import LONG_WAIT, SHORT_WAIT, WINDOW
from rapidsms_db_router.models import BackendState, Batch, Message, Transmission
from rapidsms_db_router.recovery import recover
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

BATCHES = 20


@pytest.fixture(autouse=True)
def _one_a_batch(settings, monkeypatch):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    monkeypatch.setattr(delivery, "MOMENT", 0)


def broadcast(worker, connections, text="news"):
    with worker.commit():
        return send(text, connections).database_message


def run_after(worker, task, seconds):
    """Run a task as if its batch had waited so long for a worker; return what that publishes."""
    first, *_ = task.kwargs["transmission_ids"]
    Batch.objects.filter(first_id=first).update(called=now() - timedelta(seconds=seconds))
    worker.run(task)
    return worker.take()


# A broadcast keeps as many batches in the broker as workers can take in a moment


def test_a_batch_that_a_worker_took_at_once_gives_two_others_their_turn(worker, people):
    broadcast(worker, people(BATCHES))
    first, *_ = worker.take()
    assert len(run_after(worker, first, 0)) == 2


def test_a_batch_that_waited_a_moment_gives_one(worker, people):
    broadcast(worker, people(BATCHES))
    first, *_ = worker.take()
    assert len(run_after(worker, first, (SHORT_WAIT + LONG_WAIT) / 2)) == 1


def test_a_batch_that_waited_long_gives_none_while_enough_wait_for_a_worker(worker, people):
    broadcast(worker, people(BATCHES))
    told = worker.take()
    for _ in range(2):
        told += run_after(worker, told.pop(0), 0)
    assert len(told) == WINDOW + 2
    given = [len(run_after(worker, told.pop(0), 2 * LONG_WAIT)) for _ in range(4)]
    assert given == [0, 0, 1, 1]


@pytest.mark.parametrize("seconds", [0, 2 * LONG_WAIT])
def test_a_broadcast_comes_to_its_end_however_fast_workers_are(worker, people, calls, seconds):
    message = broadcast(worker, people(BATCHES))
    told = worker.take()
    while told:
        told += run_after(worker, told.pop(0), seconds)
    message.refresh_from_db()
    assert (message.status, len(calls), Batch.objects.count()) == ("S", BATCHES, 0)


def test_a_task_goes_on_with_other_batches_for_a_moment(worker, people, calls, monkeypatch):
    monkeypatch.setattr(delivery, "MOMENT", float("inf"))
    message = broadcast(worker, people(BATCHES))
    first, *others = worker.take()
    worker.run(first)
    assert len(calls) == BATCHES - len(others) - len(worker.take())
    for task in others:
        worker.run(task)
    Message.objects.update(due=now())
    Batch.objects.update(due=now())
    recover()
    worker.work()
    message.refresh_from_db()
    assert (message.status, len(calls), Batch.objects.count()) == ("S", BATCHES, 0)


def test_a_task_goes_on_after_a_batch_that_failed(
    worker, people, calls, monkeypatch, installed_backends
):
    monkeypatch.setattr(delivery, "MOMENT", float("inf"))
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    installed_backends["phones"]["failures"] = 2
    message = broadcast(worker, people(BATCHES))
    retries = worker.work()
    assert len(retries) == 2
    message.refresh_from_db()
    assert message.status == "E"
    Transmission.objects.filter(status="E").update(next_try=now())
    for task in retries:
        worker.run(task)
    message.refresh_from_db()
    assert (message.status, message.error, len(calls)) == ("S", "", BATCHES + 2)


def test_a_broadcast_that_nothing_pushes_on_is_found(worker, people, calls):
    message = broadcast(worker, people(BATCHES))
    worker.take()
    # as if those whose turn it was had been sent and forgotten
    told = message.batches.told()
    ids = [pk for batch in told for pk in batch.transmission_ids]
    Transmission.objects.filter(pk__in=ids).update(status="S")
    told.delete()
    Message.objects.update(due=now())
    assert recover().batches == WINDOW
    worker.work()
    message.refresh_from_db()
    assert (message.status, len(calls)) == ("S", BATCHES - WINDOW)


# A backend with a limit


class Gateway(RecordingBackend):
    """Counts who is in flight, and has the worker run all there is while it is being called."""

    worker = None
    most = 0

    def send(self, **kwargs):
        """Look, and have others try."""
        super().send(**kwargs)
        held = Batch.objects.filter(claim__isnull=False, backend__name=self.name).count()
        Gateway.most = max(Gateway.most, held)
        for task in Gateway.worker.take():
            Gateway.worker.run(task)


@pytest.fixture
def limited(installed_backends, worker, monkeypatch):
    """A function that limits how many batches of ``phones`` are in flight."""
    monkeypatch.setattr(Gateway, "worker", worker)
    monkeypatch.setattr(Gateway, "most", 0)

    def limited(concurrency):
        installed_backends["phones"] = {"ENGINE": Gateway}
        if concurrency:
            installed_backends["phones"]["router.db.concurrency"] = concurrency

    return limited


@pytest.mark.parametrize(("concurrency", "moment"), [(1, 0), (1, float("inf")), (3, 0)])
def test_no_more_batches_of_a_backend_are_in_flight_than_its_limit(
    limited, worker, people, calls, monkeypatch, concurrency, moment
):
    monkeypatch.setattr(delivery, "MOMENT", moment)
    limited(concurrency)
    messages = [broadcast(worker, people(BATCHES)) for _ in range(2)]
    worker.work()
    assert Gateway.most == concurrency
    assert len(calls) == 2 * BATCHES
    assert not Batch.objects.exists()
    for message in messages:
        message.refresh_from_db()
        assert message.status == "S"


def test_without_a_limit_there_is_none(limited, worker, people):
    limited(None)
    broadcast(worker, people(BATCHES))
    worker.work()
    assert Gateway.most > WINDOW
    assert not BackendState.objects.exists()


def test_broadcasts_to_a_limited_backend_share_it_and_replies_come_first(
    worker, people, calls, installed_backends
):
    installed_backends["phones"]["router.db.concurrency"] = 1
    connections = people(BATCHES)
    for text in ("first", "second"):
        broadcast(worker, connections, text)
    told = worker.take()
    while len(calls) < BATCHES:
        worker.run(told.pop(0))
        told += worker.take()
    with worker.commit():
        receive("ping", connections[0])
    worker.work()
    texts = [call.text for call in calls]
    # what had been told of at once comes first
    middle = texts[2 * WINDOW : 2 * BATCHES - 2 * WINDOW]
    assert abs(middle.count("first") - middle.count("second")) <= 2
    assert texts.index("pong") < 2 * BATCHES - WINDOW


def test_who_died_in_flight_does_not_keep_others_out_for_ever(
    worker, people, calls, installed_backends
):
    installed_backends["phones"]["router.db.concurrency"] = 1
    message = broadcast(worker, people(3))
    first, *others = worker.take()
    Batch.objects.filter(first_id=first.kwargs["transmission_ids"][0]).update(
        claim="00000000-0000-4000-8000-000000000000"
    )
    for task in others:
        worker.run(task)
    assert calls == []
    Batch.objects.filter(claim__isnull=False).update(due=now())
    recover()
    worker.work()
    message.refresh_from_db()
    assert (message.status, len(calls)) == ("S", 3)


# A queue of one's own


def test_a_backend_with_a_queue_of_its_own_has_its_tasks_there(
    worker, people, installed_backends, calls
):
    installed_backends["slow"] = installed_backends["phones"] | {"router.db.queue": "lane"}
    message = broadcast(worker, [*people(1), *people(1, "slow")])
    worker.work()
    assert [call.backend for call in calls] == ["phones"]
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue("lane", no_ack=True)
        kwargs = queue.get_nowait().payload[1]
        queue.close()
    (batch,) = message.batches.all()
    assert kwargs["transmission_ids"] == batch.transmission_ids


def test_told_of_is_planned_by_the_database_as_python_would_divide_it(
    worker, people, settings, installed_backends
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 7
    installed_backends["small"] = installed_backends["phones"] | {"router.db.batch_size": 3}
    message = broadcast(worker, [*people(30), *people(10, "small"), *people(5, "other")])
    divided = [(group.backend_id, group.ids) for group in message.transmissions.groups()]
    planned = [
        (batch.backend_id, sorted(batch.transmission_ids)) for batch in message.batches.all()
    ]
    assert sorted(planned) == sorted(divided)
    for batch in message.batches.all():
        assert batch.first_id == min(batch.transmission_ids)
        assert (batch.due is not None) == (batch.number < WINDOW)
        assert (batch.called is not None) == (batch.calls == 1) == (batch.number < WINDOW)
    assert {batch.due for batch in delivery.told_of(message)} == {message.due}
