"""With the options that check W040 asks for, processes that write to SQLite wait for each other."""

from functools import partial

import pytest
from django.db import OperationalError, connection, transaction
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router import checks
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Batch, Message, Transmission
from tests.concurrency.parallel import elsewhere, in_processes
from tests.concurrency.sending import new_sender

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="is about SQLite"),
]

ROUNDS = 40


def receive_some(first):
    sender = Connection.objects.first()
    for number in range(first, first + ROUNDS):
        receive(f"ping {number}", sender)


def send_some(first):
    for number in range(first, first + ROUNDS):
        send(f"broadcast {number}", Connection.objects.all())


def test_processes_that_write_at_once_are_never_told_that_the_database_is_locked(
    router, make_connections, published, settings
):
    assert checks.check_database() == [], "the tests' own options are not what the check asks for"
    make_connections(10)

    # every message ends in an on_commit, a task, and a write of its own
    in_processes(*[partial(call, n * ROUNDS) for n in (0, 1) for call in (receive_some, send_some)])

    assert Message.objects.count() == 4 * ROUNDS
    assert set(Message.objects.values_list("status", flat=True)) == {
        Status.QUEUED,
        Status.PROCESSING,
    }


def test_eager_processes_too(router, make_connections):
    make_connections(10)

    in_processes(*[partial(call, n * ROUNDS) for n in (0, 1) for call in (receive_some, send_some)])

    # the answers to those received, too
    assert Message.objects.count() == 6 * ROUNDS
    assert set(Message.objects.values_list("status", flat=True)) == {Status.RECEIVED, Status.SENT}


@pytest.mark.parametrize("before", [0, 1], ids=["claims", "writes_down"])
def test_a_sender_that_finds_the_database_locked_goes_on_where_it_was(
    router, gateway, make_connections, published, before
):
    connections = make_connections(10)
    send("broadcast", connections)
    sender = new_sender()
    sender.wake(Backend.objects.get())

    def step(times=1):
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 10")
        for _ in range(times):
            sender.step()

    elsewhere(partial(step, before))
    with transaction.atomic():
        Connection.objects.update(contact=None)  # locks the database
        with pytest.raises(OperationalError, match="locked"):
            elsewhere(step)
    elsewhere(partial(step, 2))

    assert sender.is_done
    assert not Batch.objects.exists()
    assert sorted(gateway.sent) == sorted(each.identity for each in connections)
    assert set(Transmission.objects.values_list("status", "attempts")) == {(Status.SENT, 1)}
    assert Message.objects.get().status == Status.SENT
