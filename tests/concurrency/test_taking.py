"""Work is taken by one: each row, whoever else reaches for it at the same instant."""

from functools import partial
from uuid import uuid4

import pytest

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.tasks import receive_async
from tests.concurrency.parallel import in_threads

pytestmark = pytest.mark.django_db(transaction=True)

TAKERS = 4
ROUNDS = 15


def take_all(batches):
    """Take every batch, one after the other; return what each take was given."""
    takes = [(uuid4(), *batch) for batch in batches]
    return [(take[0], Transmission.objects.take(*take)) for take in takes]


def assert_each_row_has_one_taker(takes_of_all):
    holders = [(row.id, claim) for takes in takes_of_all for claim, rows in takes for row in rows]
    stored = Transmission.objects.filter(status=Status.PROCESSING).values_list("pk", "claim")
    assert sorted(holders) == sorted(stored)
    assert len(holders) == Transmission.objects.count()
    assert set(Transmission.objects.values_list("attempts", flat=True)) == {1}


def test_takers_of_the_same_batch_never_get_the_same_row(router, make_connections):
    connections = make_connections(20)
    messages = [router.queue_message("O", connections, f"round {n}") for n in range(ROUNDS)]
    batches = [(m.pk, list(m.transmissions.values_list("pk", flat=True))) for m in messages]

    takes = in_threads(*[partial(take_all, batches)] * TAKERS)

    assert_each_row_has_one_taker(takes)


def test_takers_of_batches_that_overlap_never_get_the_same_row(router, make_connections):
    connections = make_connections(30)
    messages = [router.queue_message("O", connections, f"round {n}") for n in range(ROUNDS)]
    ids = [(m.pk, list(m.transmissions.values_list("pk", flat=True))) for m in messages]
    forward = [(pk, rows[:20]) for pk, rows in ids]
    backward = [(pk, rows[:9:-1]) for pk, rows in ids]

    takes = in_threads(*[partial(take_all, batches) for batches in (forward, backward) * 2])

    assert_each_row_has_one_taker(takes)


def test_one_inbound_message_has_one_taker(router, make_connections):
    sender = make_connections(1)
    ids = [router.queue_message("I", sender, f"round {n}").pk for n in range(ROUNDS)]

    def take():
        return [Message.objects.take_inbound(pk) for pk in ids]

    for pk, claims in zip(ids, zip(*in_threads(*[take] * TAKERS), strict=True), strict=True):
        (claim,) = filter(None, claims)
        assert Message.objects.get(pk=pk).claim == claim


def test_apps_run_once_on_a_message_however_many_tasks_run(router, echo, make_connections):
    sender = make_connections(1)
    ids = [router.queue_message("I", sender, f"round {n}").pk for n in range(ROUNDS)]

    def process():
        for pk in ids:
            receive_async(message_id=pk, fields={})

    in_threads(*[process] * TAKERS)

    assert sorted(echo.handled) == ids
    inbound = Message.objects.filter(direction=Direction.INCOMING)
    assert set(inbound.values_list("status", "attempts")) == {(Status.RECEIVED, 1)}
    for message in inbound:
        assert message.responses.get().status == Status.SENT
