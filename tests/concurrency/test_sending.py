"""A number is sent a message once, and the message's status is right in the end."""

import random
from contextlib import suppress
from functools import partial

import pytest
from rapidsms.router import send

from rapidsms_db_router import delivery, gates, queueing, tasks
from rapidsms_db_router.choices import Status
from rapidsms_db_router.errors import TransmissionsFailed
from rapidsms_db_router.models import Message, Transmission
from tests.concurrency.parallel import in_processes, in_threads

pytestmark = pytest.mark.django_db(transaction=True)

BATCHES = 5
MESSAGES = 40


def run_tasks(published):
    """Run tasks as a worker does, one after the other."""
    for name, kwargs in published:
        with suppress(TransmissionsFailed):  # a worker stores the failure and goes on
            getattr(tasks, name)(**kwargs)


def statuses(model):
    return set(model.objects.values_list("status", flat=True))


@pytest.mark.parametrize("run", [in_threads, in_processes])
def test_message_whose_batches_finish_together_ends_sent(
    router, make_connections, published, settings, monkeypatch, run
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    monkeypatch.setattr(delivery, "WINDOW", BATCHES)
    connections = make_connections(2 * BATCHES)
    for number in range(MESSAGES):
        send(f"broadcast {number}", connections)
    queued = published()
    assert len(queued) == MESSAGES * BATCHES
    assert statuses(Message) == {Status.PROCESSING}

    # each runs one batch of every message, so that all are at the same message together
    run(*[partial(run_tasks, queued[number::BATCHES]) for number in range(BATCHES)])

    assert statuses(Transmission) == {Status.SENT}
    assert statuses(Message) == {Status.SENT}
    assert not Message.objects.filter(sent=None).exists()


def test_tasks_delivered_four_times_send_once(
    router, gateway, make_connections, published, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200 // delivery.WINDOW
    connections = make_connections(200)
    send("broadcast", connections)
    queued = published()
    shuffled = [random.sample(queued, len(queued)) for _ in range(4)]

    in_threads(*[partial(run_tasks, queued) for queued in shuffled])

    assert sorted(gateway.sent) == sorted(connection.identity for connection in connections)
    assert statuses(Transmission) == {Status.SENT}
    assert Message.objects.get().status == Status.SENT


@pytest.fixture
def never_left_alone(monkeypatch):
    """No gateway is left alone, however often it fails."""
    monkeypatch.setattr(gates, "FAILURES", 1_000_000)


def test_tasks_delivered_four_times_fail_once_until_the_next_try_is_due(
    router, gateway, make_connections, published, settings, never_left_alone
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 100 // delivery.WINDOW + 1
    gateway.down = True
    connections = make_connections(100)
    send("broadcast", connections)
    queued = published()

    in_threads(*[partial(run_tasks, queued)] * 4)

    assert sorted(gateway.refused) == sorted(connection.identity for connection in connections)
    assert set(Transmission.objects.values_list("status", "attempts")) == {(Status.ERRORED, 1)}
    assert not Transmission.objects.filter(next_try=None).exists()
    assert Message.objects.get().status == Status.ERRORED


def test_resending_while_sending_sends_once(
    router, gateway, make_connections, published, settings, never_left_alone
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 100 // delivery.WINDOW + 1
    connections = make_connections(100)
    for number in range(5):
        send(f"broadcast {number}", connections)
    queued = published()
    gateway.down = True
    run_tasks(queued)
    assert statuses(Transmission) == {Status.ERRORED}
    gateway.down = False
    Transmission.objects.update(next_try=None)
    # half of them are due, the other half given up
    due = list(Transmission.objects.values_list("pk", flat=True)[::2])
    Transmission.objects.filter(pk__in=due).update(next_try="2000-01-01T00:00:00Z")

    def resend_all():
        _, messages = delivery.resend(Transmission.objects.all())
        for message in Message.objects.filter(pk__in=messages):
            queueing.queue_outbound(message)

    work = partial(run_tasks, queued)
    in_threads(resend_all, work, partial(run_tasks, queued[::-1]), resend_all)
    while queued := published():  # those that were told to go again
        run_tasks(queued)

    numbers = [connection.identity for connection in connections] * 5
    assert sorted(gateway.sent) == sorted(numbers)
    assert statuses(Transmission) == {Status.SENT}
    assert statuses(Message) == {Status.SENT}
