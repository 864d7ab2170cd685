"""A gateway that posts a message twice is answered once, even if it does so at one instant."""

from contextlib import nullcontext
from functools import partial

import pytest
from django.db import transaction
from rapidsms.models import Connection
from rapidsms.router import receive

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import Message
from tests.concurrency.parallel import in_processes, in_threads

pytestmark = pytest.mark.django_db(transaction=True)

CALLERS = 4
ROUNDS = 15


def receive_all(connection_id, atomic=False):
    """Receive one message after the other; return the ids of their rows."""
    sender = Connection.objects.get(pk=connection_id)
    rows = []
    for number in range(ROUNDS):
        with transaction.atomic() if atomic else nullcontext():
            fields = {"external_id": f"id-{number}"}
            rows.append(receive(f"ping {number}", sender, fields=fields).dbm.pk)
    return rows


def assert_stored_once(rows_of_all):
    assert len(set(map(tuple, rows_of_all))) == 1, "callers were given different rows"
    assert len(set(rows_of_all[0])) == ROUNDS
    assert Message.objects.filter(direction=Direction.INCOMING).count() == ROUNDS


def assert_processed_once():
    for message in Message.objects.filter(direction=Direction.INCOMING):
        assert (message.status, message.attempts) == (Status.RECEIVED, 1)
        assert message.responses.get().status == Status.SENT


@pytest.mark.parametrize("run", [in_threads, in_processes])
def test_repeated_message_is_stored_and_processed_once(router, make_connections, run):
    (sender,) = make_connections(1)

    rows = run(*[partial(receive_all, sender.pk)] * CALLERS)

    assert_stored_once(rows)
    assert_processed_once()


def test_repeated_message_is_stored_and_queued_once_by_open_transactions(
    router, make_connections, published
):
    (sender,) = make_connections(1)

    rows = in_threads(*[partial(receive_all, sender.pk, atomic=True)] * CALLERS)

    assert_stored_once(rows)
    queued = {kwargs["message_id"] for _, kwargs in published()}
    assert queued == set(rows[0])
