"""How many queries each step asks: pinned, and the same however many recipients there are."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router import delivery
from rapidsms_db_router.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission

pytestmark = pytest.mark.django_db

CONTROL = re.compile("BEGIN|COMMIT|SAVEPOINT|RELEASE")


class Queries(CaptureQueriesContext):
    """The queries of the body; what begins and ends transactions does not count."""

    @property
    def count(self):
        """Return how many there were."""
        return sum(not CONTROL.match(query["sql"]) for query in self.captured_queries)


@pytest.fixture
def queries():
    now()  # asks the database what time it is, once an hour
    return Queries(connection)


@pytest.fixture
def one_a_task(monkeypatch):
    """No task goes on with other batches."""
    monkeypatch.setattr(delivery, "MOMENT", 0)


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


def test_from_ping_to_pong(worker, person, queries, calls):
    with worker.commit():
        receive("ping before", person)
    worker.work()  # loads what is loaded once
    with queries:
        with worker.commit():
            receive("ping", person)
        assert queries.count == (1 if connection.vendor == "postgresql" else 2)
        worker.work()
    assert [call.text for call in calls] == ["pong before", "pong"]
    assert queries.count == (7 if connection.vendor == "postgresql" else 10)


@pytest.mark.parametrize("count", [300, 3000])
def test_a_broadcast(worker, crowd, queries, count):
    connections = crowd(count)
    with queries, worker.commit():
        send("news", connections)
    assert Transmission.objects.count() == count
    assert Batch.objects.count() == -(-count // 200)
    assert queries.count <= 6


@pytest.mark.parametrize("count", [1200, 3000])
@pytest.mark.parametrize("shape", [list, iter], ids=["list", "iterator"])
def test_a_broadcast_to_what_python_holds(worker, crowd, queries, count, shape):
    connections = shape(list(crowd(count)))
    with queries, worker.commit():
        send("news", connections)
    assert Transmission.objects.count() == count
    assert queries.count <= 6


@pytest.mark.parametrize("count", [2000, 8000])
def test_a_batch(worker, crowd, queries, one_a_task, count):
    with worker.commit():
        send("news", crowd(count))
    first, *_ = worker.take()
    with queries:
        worker.run(first)
    assert Transmission.objects.filter(status="S").count() == 200
    assert queries.count <= 10


def test_a_batch_that_fails_counts_no_rows_of_others(
    worker, crowd, queries, installed_backends, one_a_task
):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    with worker.commit():
        send("news", crowd(2000))
    first, *_ = worker.take()
    with queries:
        worker.run(first)
    assert Message.objects.get().status == "E"
    # five of them for what all workers have to know of a backend that fails
    assert queries.count <= 16
    assert not any(
        'COUNT("rapidsms_db_router_transmission"' in query["sql"]
        for query in queries.captured_queries
    )


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
