"""How many queries each step asks: bounded, and the same however many recipients there are."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.models import BackendState, Batch, Message, SlotLease, Transmission
from rapidsms_db_router.outbound.again import resend
from rapidsms_db_router.outbound.sender import Sender
from tests.integration.executors import SlowGateway

pytestmark = pytest.mark.django_db

CONTROL = re.compile("BEGIN|COMMIT|SAVEPOINT|RELEASE")
#: Statements, at the most.
MOST = {
    "receive": {"postgresql": 1, "mysql": 2, "sqlite": 2},
    "ping to pong": {"postgresql": 10, "mysql": 17, "sqlite": 17},
    # the end of one batch and the beginning of the next
    "batch": {"postgresql": 7, "mysql": 10, "sqlite": 10},
    "failed batch": {"postgresql": 8, "mysql": 11, "sqlite": 11},
}
MOST_OF_A_BROADCAST = 4


class Queries(CaptureQueriesContext):
    """The queries of the body; what begins and ends transactions does not count."""

    @property
    def sql(self):
        """Return them."""
        said = [query["sql"] for query in self.captured_queries]
        return [sql for sql in said if not CONTROL.match(sql)]

    @property
    def count(self):
        """Return how many there were."""
        return len(self.sql)


@pytest.fixture
def queries():
    now()  # asks the database what time it is, once an hour
    return Queries(connection)


@pytest.fixture
def crowd():
    """A function that returns a QuerySet of so many connections."""

    def crowd(count):
        backend, _ = Backend.objects.get_or_create(name="phones")
        Connection.objects.bulk_create(
            (Connection(backend=backend, identity=f"+1{n:06}") for n in range(count)),
            ignore_conflicts=True,
        )
        return Connection.objects.filter(identity__lt=f"+1{count:06}")

    return crowd


@pytest.fixture
def clock(worker, monkeypatch):
    """The clock of the sender, which stands still: a permit counts until the test moves it."""
    clock = Clock(worker.sender.clock())
    monkeypatch.setattr(worker.sender, "clock", clock)
    return clock


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self, moment):
        self.moment = moment

    def __call__(self):
        return self.moment


# Storing


@pytest.mark.usefixtures("clock")
def test_from_ping_to_pong(worker, person, queries, calls):
    with worker.commit():
        receive("ping before", person)
    worker.work()  # loads what is loaded once
    with queries:
        with worker.commit():
            receive("ping", person)
        assert queries.count <= MOST["receive"][connection.vendor]
        worker.work()
    assert [call.text for call in calls] == ["pong before", "pong"]
    assert queries.count <= MOST["ping to pong"][connection.vendor]


@pytest.mark.parametrize("count", [300, 3000])
def test_a_broadcast(worker, crowd, queries, count):
    connections = crowd(count)
    with queries, worker.commit():
        send("news", connections)
    assert Transmission.objects.count() == count
    assert Batch.objects.count() == -(-count // 200)
    assert queries.count <= MOST_OF_A_BROADCAST


def test_a_broadcast_of_one_recipient_a_call(worker, crowd, queries, installed_backends):
    installed_backends["phones"]["router.db.batch_size"] = 1
    connections = crowd(3000)
    with queries, worker.commit():
        send("news", connections)
    assert Batch.objects.count() == 15
    assert queries.count <= MOST_OF_A_BROADCAST


@pytest.mark.parametrize("count", [1200, 3000])
@pytest.mark.parametrize("shape", [list, iter], ids=["list", "iterator"])
def test_a_broadcast_to_what_python_holds(worker, crowd, queries, count, shape):
    connections = shape(list(crowd(count)))
    with queries, worker.commit():
        send("news", connections)
    assert Transmission.objects.count() == count
    assert queries.count <= MOST_OF_A_BROADCAST


def test_an_iterator_is_never_held_as_a_whole(worker, crowd):
    count = 20_000
    pks = list(crowd(count).values_list("pk", flat=True))
    backend = Backend.objects.get()
    tracemalloc.start()
    try:
        with worker.commit():
            send("news", (Connection(pk=pk, backend=backend) for pk in pks))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert Transmission.objects.count() == count
    assert peak < count * 1000


# Sending


class Sending:
    """A sender in the middle of a broadcast: so many calls of one backend are in flight.

    :param calls: how many.
    :param size: how many recipients each carries.
    """

    def __init__(self, worker, crowd, installed_backends, calls, size=1, count=1000):
        installed_backends["phones"] |= {
            "router.db.batch_size": size,
            "router.db.concurrency": calls,
        }
        with worker.commit():
            self.message = send("news", crowd(count)).database_message
        worker.take()
        self.gateway = SlowGateway()
        self.clock = Clock(0.0)
        self.sender = Sender(self.gateway, clock=self.clock)
        self.sender.wake(Backend.objects.get())

    def step(self):
        self.sender.step()

    def end(self):
        """Have nothing left that another sender would find."""
        Batch.objects.all().delete()
        SlotLease.objects.all().delete()
        BackendState.objects.update(failures=0, open_until=None, opened_at=None)


@pytest.mark.parametrize("count", [2000, 8000])
def test_a_batch(worker, crowd, queries, installed_backends, count):
    sending = Sending(worker, crowd, installed_backends, calls=1, size=200, count=count)
    sending.step()
    sending.gateway.answer(0)
    with queries:
        sending.step()
    assert Transmission.objects.filter(status="S").count() == 200
    assert Transmission.objects.filter(status="P").count() == 200
    assert queries.count <= MOST["batch"][connection.vendor]


def test_a_batch_that_fails_counts_no_rows_of_others(worker, crowd, queries, installed_backends):
    sending = Sending(worker, crowd, installed_backends, calls=1, size=200, count=2000)
    sending.step()
    sending.gateway.answer(0, OSError("no way"))
    with queries:
        sending.step()
    assert queries.count <= MOST["failed batch"][connection.vendor]
    assert Message.objects.get().status == "E"
    assert not any("COUNT(" in sql and "router_transmission" in sql for sql in queries.sql)


def accepted(sending, number):
    sending.gateway.answer(number)


def accepted_with_an_id(sending, number):
    (row,) = sending.gateway.calls[number].rows
    sending.gateway.answer(number, returned={row.identity: f"gateway-{number}"})


def refused_for_a_reason_of_its_own(sending, number):
    sending.gateway.answer(number, OSError(f"no way to number {number}"))


def refused_for_good(sending, number):
    sending.gateway.answer(number, PermanentSendingError(f"no such number {number}"))


def an_outage(sending, number):
    sending.gateway.answer(number, ConnectionRefusedError())


OUTCOMES = {
    "accepted": [accepted],
    "accepted with an id": [accepted_with_an_id],
    "refused": [refused_for_a_reason_of_its_own],
    "refused for good": [refused_for_good],
    "of every kind": [accepted_with_an_id, refused_for_a_reason_of_its_own, refused_for_good],
    "an outage": [an_outage],
}


@pytest.mark.parametrize("outcomes", OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize("passed", [0, 1], ids=["with a permit", "without one"])
def test_the_statements_of_a_step_do_not_grow_with_the_number_of_calls(
    worker, crowd, queries, installed_backends, outcomes, passed
):
    def statements(calls):
        sending = Sending(worker, crowd, installed_backends, calls)
        sending.step()
        assert len(sending.gateway.calls) == calls
        for number in range(calls):
            outcomes[number % len(outcomes)](sending, number)
        sending.clock.moment += passed
        with queries:
            sending.step()
        in_flight = sending.message.transmissions.filter(status="P").count()
        assert in_flight == (0 if an_outage in outcomes else calls)
        sending.end()
        return queries.count

    statements(3)  # stores what is stored once for each backend
    assert statements(10) == statements(50) <= 20


@pytest.mark.parametrize("again", [False, True], ids=["sent", "sent again"])
def test_the_statements_of_a_step_do_not_grow_with_the_number_of_messages(
    worker, crowd, queries, installed_backends, again
):
    installed_backends["phones"]["router.db.concurrency"] = 100

    def statements(messages):
        with worker.commit():
            sent = [send("news", [person]).database_message.pk for person in crowd(messages)]
        of_messages = Transmission.objects.filter(message__in=sent)
        if again:
            Batch.objects.all().delete()
            of_messages.update(status="E", error="no way")
            Message.objects.filter(pk__in=sent).update(status="E", given_up=True)
            with worker.commit():
                resend(of_messages)
        worker.take()
        gateway, clock = SlowGateway(), Clock(0.0)
        sender = Sender(gateway, clock=clock)
        sender.wake(Backend.objects.get())
        while len(gateway.calls) < messages:
            sender.step()
        for number in range(messages):
            gateway.answer(number)
        with queries:
            sender.step()
        assert set(of_messages.values_list("status", flat=True)) == {"S"}
        assert set(Message.objects.filter(pk__in=sent).values_list("status", flat=True)) == {"S"}
        SlotLease.objects.all().delete()
        return queries.count

    statements(3)  # stores what is stored once for each backend
    assert statements(10) == statements(50) <= 20
