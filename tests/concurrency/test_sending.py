"""A recipient is sent a message once, and the message's status is right in the end."""

import random
from contextlib import suppress
from functools import partial

import pytest
from rapidsms.models import Backend
from rapidsms.router import send

from rapidsms_db_router import bulk_actions, recovery, tasks
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import TransmissionsFailed
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message, SlotLease, Transmission, status
from rapidsms_db_router.outbound import again, discarding
from rapidsms_db_router.outbound.sender import Sender
from tests.concurrency.conftest import BACKEND
from tests.concurrency.parallel import in_processes, in_threads
from tests.concurrency.sending import Later, send_all, send_until

pytestmark = pytest.mark.django_db(transaction=True)

BATCHES = 5
MESSAGES = 40


def run_tasks(published):
    """Call tasks, which send here and now, one after the other."""
    for name, kwargs in published:
        with suppress(TransmissionsFailed):
            getattr(tasks, name)(**kwargs)


def statuses(model):
    return set(model.objects.values_list("status", flat=True))


def assert_statuses_follow():
    """Assert that each message's status is what those of its transmissions say."""
    for message in Message.objects.filter(direction=Direction.OUTGOING):
        assert message.status == status.current(message)


@pytest.fixture
def broadcasts(router, make_connections, published, settings):
    """Store messages of so many batches, each of two recipients; return the connections."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2

    def broadcasts(messages=MESSAGES):
        connections = make_connections(2 * BATCHES)
        for number in range(messages):
            send(f"broadcast {number}", connections)
        assert Batch.objects.count() == messages * BATCHES
        return connections

    return broadcasts


@pytest.mark.parametrize("run", [in_threads, in_processes])
def test_senders_that_send_together_send_once(broadcasts, run):
    """Batches of one message end at the same time, and the message is S."""
    broadcasts()

    refused = run(*[send_all] * 3)

    assert refused == [[], [], []]
    assert set(Transmission.objects.values_list("status", "attempts")) == {(Status.SENT, 1)}
    assert statuses(Message) == {Status.SENT}
    assert not Message.objects.filter(sent=None).exists()
    assert not SlotLease.objects.exists()


def test_senders_together_call_each_recipient_once(broadcasts, gateway):
    connections = broadcasts()

    in_threads(*[send_all] * 3)

    numbers = [connection.identity for connection in connections] * MESSAGES
    assert sorted(gateway.sent) == sorted(numbers)


def test_senders_together_make_no_more_calls_at_once_than_the_backend_takes(broadcasts, settings):
    settings.INSTALLED_BACKENDS[BACKEND]["router.db.concurrency"] = 3
    broadcasts(1)
    in_flight = []

    def start():
        executor = Later()
        sender = Sender(executor)
        sender.wake(Backend.objects.get())
        for _ in range(5):
            sender.step()
        in_flight.append(len(executor.calls))

    in_threads(*[start] * 4)

    assert 0 < sum(in_flight) <= 3
    in_flight_rows = Transmission.objects.filter(status=Status.PROCESSING).count()
    assert in_flight_rows == 2 * sum(in_flight)


def test_tasks_that_are_called_four_times_send_once(
    router, gateway, make_connections, published, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 20
    connections = make_connections(100)
    send("broadcast", connections)
    queued = each_batch_as_task()
    shuffled = [random.sample(queued, len(queued)) for _ in range(4)]

    in_threads(*[partial(run_tasks, queued) for queued in shuffled])

    assert sorted(gateway.sent) == sorted(connection.identity for connection in connections)
    assert statuses(Transmission) == {Status.SENT}
    assert Message.objects.get().status == Status.SENT


def each_batch_as_task():
    """Return a task for each batch, as a caller that names transmissions would publish it."""
    return [
        (
            "send_transmissions",
            {
                "backend_id": batch.backend_id,
                "message_id": batch.message_id,
                "transmission_ids": batch.transmission_ids,
            },
        )
        for batch in Batch.objects.all()
    ]


def test_tasks_that_are_called_four_times_fail_once_until_the_next_try_is_due(
    router, gateway, make_connections, published, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 20
    gateway.down = True
    connections = make_connections(100)
    send("broadcast", connections)
    queued = each_batch_as_task()

    in_threads(*[partial(run_tasks, queued)] * 4)

    assert sorted(gateway.refused) == sorted(connection.identity for connection in connections)
    assert set(Transmission.objects.values_list("status", "attempts")) == {(Status.ERRORED, 1)}
    assert not Transmission.objects.filter(next_try=None).exists()
    assert Message.objects.get().status == Status.ERRORED


def test_resending_while_sending_sends_once(router, gateway, make_connections, published, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 20
    connections = make_connections(100)
    gateway.down = True
    for number in range(5):
        send(f"broadcast {number}", connections)
    send_until(lambda: statuses(Transmission) == {Status.ERRORED})
    gateway.down = False
    # half of the batches are due, the other half is given up
    due = list(Batch.objects.values_list("pk", flat=True)[::2])
    Batch.objects.exclude(pk__in=due).delete()
    Batch.objects.update(ready_at=now())
    Transmission.objects.exclude(pk__in=of_batches()).update(next_try=None)

    def resend_all():
        again.resend(Transmission.objects.all())

    def all_sent():
        return statuses(Transmission) == {Status.SENT} and not Batch.objects.exists()

    refused = in_threads(
        resend_all, partial(send_until, all_sent), partial(send_until, all_sent), resend_all
    )

    assert [each for each in refused if each] == []
    numbers = [connection.identity for connection in connections] * 5
    assert sorted(gateway.sent) == sorted(numbers)
    assert statuses(Message) == {Status.SENT}


def test_bulk_actions_beside_senders_send_once(
    router, gateway, make_connections, published, settings, monkeypatch
):
    """Two operators ask for the same; each bulk action is done by two workers at once."""
    monkeypatch.setattr(bulk_actions, "CHUNK", 10)
    connections = make_connections(20)
    gateway.down = True
    for number in range(5):
        send(f"broadcast {number}", connections)
    send_until(lambda: statuses(Transmission) == {Status.ERRORED})
    gateway.down = False
    actions = [bulk_actions.prepare("resend", Transmission.objects.all()) for _ in range(2)]
    for action in actions:
        bulk_actions.start(action)

    def all_sent():
        return statuses(Transmission) == {Status.SENT} and not Batch.objects.exists()

    in_threads(
        *(partial(bulk_actions.go_on, action.pk) for action in actions * 2),
        partial(send_until, all_sent),
        partial(send_until, all_sent),
    )

    for action in actions:
        action.refresh_from_db()
    assert [(action.state, action.handled) for action in actions] == [("done", 100)] * 2
    assert sum(action.changed for action in actions) == 100
    assert sorted(gateway.sent) == sorted([each.identity for each in connections] * 5)
    assert statuses(Message) == {Status.SENT}


def of_batches():
    return [pk for batch in Batch.objects.all() for pk in batch.transmission_ids]


def test_what_is_cancelled_while_it_is_sent_is_either_sent_or_cancelled(broadcasts, gateway):
    broadcasts()

    def cancel():
        return discarding.cancel(Message.objects.order_by("-pk"))

    *refused, cancelled, more = in_threads(send_all, send_all, cancel, cancel)

    assert refused == [[], []]
    errored = Transmission.objects.filter(status=Status.ERRORED)
    assert cancelled + more == errored.count()
    assert set(errored.values_list("error", flat=True)) <= {discarding.CANCELLED}
    sent = Transmission.objects.filter(status=Status.SENT)
    assert sent.count() + errored.count() == MESSAGES * 2 * BATCHES
    assert sorted(gateway.sent) == sorted(sent.values_list("connection__identity", flat=True))
    assert not Batch.objects.exists()
    assert_statuses_follow()


def test_a_pause_stops_senders_and_loses_nothing(broadcasts, gateway):
    connections = broadcasts(100)
    backend = connections[0].backend

    def is_paused():
        state = operators.state_of(Backend.objects.get())
        return state is not None and state.paused

    def pause():
        operators.pause(backend)

    refused = in_threads(*[partial(send_until, is_paused)] * 2, pause)

    assert [each for each in refused if each] == []
    assert statuses(Transmission) <= {Status.SENT, Status.QUEUED}
    assert not Batch.objects.claimed().exists()
    before = len(gateway.sent)
    assert Transmission.objects.filter(status=Status.SENT).count() == before
    operators.resume(backend)
    in_threads(send_all, send_all)
    numbers = [connection.identity for connection in connections] * 100
    assert sorted(gateway.sent) == sorted(numbers)
    assert statuses(Message) == {Status.SENT}


def test_pauses_and_resumes_while_senders_send_lose_nothing(broadcasts, gateway):
    connections = broadcasts()
    backend = connections[0].backend

    def flicker():
        for _ in range(20):
            operators.pause(backend)
            operators.resume(backend)

    _, *refused = in_threads(flicker, send_all, send_all)

    assert refused == [[], []]
    numbers = [connection.identity for connection in connections] * MESSAGES
    assert sorted(gateway.sent) == sorted(numbers)
    assert statuses(Message) == {Status.SENT}


@pytest.mark.parametrize("after_crash", ["resend", "error"])
def test_a_slow_sender_and_recovery_leave_no_message_between_them(
    broadcasts, gateway, settings, after_crash
):
    """The leases of a sender end while its calls do."""
    settings.INSTALLED_BACKENDS[BACKEND]["router.db.after_crash"] = after_crash
    broadcasts()
    executor = Later()
    sender = Sender(executor)
    sender.wake(Backend.objects.get())
    sender.step()
    in_flight = sum(len(call.rows) for call, _ in executor.calls)
    assert Transmission.objects.filter(status=Status.PROCESSING).count() == in_flight > 0
    Batch.objects.claimed().update(recover_at=now().replace(year=2000))
    executor.end()

    def write_down():
        sender.drain()
        sender.step()
        sender.step()
        assert sender.is_done
        sender.close()

    in_threads(write_down, recovery.recover, recovery.recover)
    send_all()

    # those of which recovery has decided first
    decided = len(gateway.sent) - MESSAGES * 2 * BATCHES
    errored = Transmission.objects.filter(status=Status.ERRORED).count()
    if after_crash == "resend":
        assert 0 <= decided <= in_flight
        assert statuses(Transmission) == {Status.SENT}
    else:
        assert decided == 0
        assert errored <= in_flight
        assert statuses(Transmission) <= {Status.SENT, Status.ERRORED}
    status.settle_unless_pending(list(Message.objects.all()))
    assert_statuses_follow()
    assert not Batch.objects.exists()
