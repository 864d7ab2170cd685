"""With the options that check W040 asks for, processes that write to SQLite wait for each other."""

from functools import partial

import pytest
from django.db import connection
from rapidsms.models import Connection
from rapidsms.router import receive, send

from rapidsms_db_router import checks
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message
from tests.concurrency.parallel import in_processes

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
