"""Work is claimed by one process: each item, however many reach for it at the same instant."""

import time
from collections import Counter
from functools import partial
from itertools import chain
from uuid import uuid4

import pytest
from rapidsms.router import send

from rapidsms_db_router import recovery
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, RecoverySchedule, Transmission
from rapidsms_db_router.outbound import queue
from rapidsms_db_router.tasks import receive_async
from tests.concurrency.parallel import PATIENCE, in_processes, in_threads

pytestmark = pytest.mark.django_db(transaction=True)

CLAIMERS = 4
ROUNDS = 15


def claim_all(backend_id):
    """Claim batches, two at a time, while there are any; return their keys and their claims."""
    claimed, deadline = [], time.monotonic() + PATIENCE
    while Batch.objects.claimable().exists():
        assert time.monotonic() < deadline
        token = uuid4()
        batches = engine().claim_batches(backend_id, token, 2)
        claimed += [(batch.pk, token) for batch in batches]
    return claimed


@pytest.mark.parametrize("run", [in_threads, in_processes])
def test_a_batch_is_claimed_by_one_sender(router, make_connections, published, settings, run):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    connections = make_connections(10)
    for number in range(ROUNDS):
        send(f"broadcast {number}", connections)
    backend = connections[0].backend_id

    claimed = list(chain(*run(*[partial(claim_all, backend)] * CLAIMERS)))

    assert len(claimed) == ROUNDS * 5
    assert dict(claimed) == dict(Batch.objects.values_list("pk", "claim_token"))


def test_an_inbound_message_is_claimed_by_one_worker(router, make_connections):
    sender = make_connections(1)
    ids = [router.queue_message("I", sender, f"round {n}").pk for n in range(ROUNDS)]

    def claim():
        tokens = [(pk, uuid4()) for pk in ids]
        return [token for pk, token in tokens if engine().claim_inbound(pk, token)]

    claims = list(chain(*in_threads(*[claim] * CLAIMERS)))

    stored = Message.objects.values_list("claim_token", flat=True)
    assert Counter(claims) == Counter(stored)
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.parametrize("atomic", [False, True], ids=["in_steps", "atomic"])
def test_apps_run_once_on_a_message_however_many_tasks_run(
    router, echo, make_connections, settings, atomic
):
    settings.DB_ROUTER_ATOMIC_RECEIVE = atomic
    sender = make_connections(1)
    ids = [router.queue_message("I", sender, f"round {n}").pk for n in range(ROUNDS)]

    def process():
        for pk in ids:
            receive_async(message_id=pk, fields={})

    in_threads(*[process] * CLAIMERS)

    assert sorted(echo.handled) == ids
    inbound = Message.objects.filter(direction=Direction.INCOMING)
    assert set(inbound.values_list("status", "attempts")) == {(Status.RECEIVED, 1)}
    for message in inbound:
        assert message.responses.get().status == Status.SENT


def in_batches():
    """Return how many batches hold each transmission."""
    return Counter(pk for batch in Batch.objects.all() for pk in batch.transmission_ids)


def all_once():
    return Counter(Transmission.objects.values_list("pk", flat=True))


def test_transmissions_without_a_batch_get_one_from_one_of_several_tasks(router, make_connections):
    connections = make_connections(5)
    backend = connections[0].backend
    stored = [router.queue_message("O", connections, f"round {n}") for n in range(ROUNDS)]
    rows = [(m.pk, list(m.transmissions.values_list("pk", flat=True))) for m in stored]

    def adopt():
        for pk, ids in rows:
            queue.adopt(pk, backend, ids)

    in_threads(*[adopt] * CLAIMERS)

    assert in_batches() == all_once()
    assert Batch.objects.count() == ROUNDS


def test_transmissions_that_several_callers_name_are_in_one_batch(
    router, make_connections, published
):
    connections = make_connections(30)
    backend = connections[0].backend
    for number in range(ROUNDS):
        send(f"round {number}", connections)
    rows = {pk: [] for pk in Message.objects.values_list("pk", flat=True)}
    for pk, row in Transmission.objects.order_by("pk").values_list("message_id", "pk"):
        rows[pk].append(row)

    def isolate(first, last):
        return [queue.isolate(pk, backend, ids[first:last]) for pk, ids in rows.items()]

    in_threads(*[partial(isolate, *ends) for ends in ((0, 20), (10, 30), (5, 25), (0, 30))])

    assert in_batches() == all_once()


def test_transmissions_that_are_named_while_senders_claim_are_in_one_batch(
    router, make_connections, published, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 5
    connections = make_connections(20)
    backend = connections[0].backend
    for number in range(ROUNDS):
        send(f"round {number}", connections)
    ids = list(Transmission.objects.order_by("pk").values_list("message_id", "pk"))

    def isolate():
        for pk in Message.objects.values_list("pk", flat=True):
            queue.isolate(pk, backend, {row for message, row in ids[::2] if message == pk})

    in_threads(isolate, partial(claim_all, backend.pk), isolate, partial(claim_all, backend.pk))

    assert in_batches() == all_once()


def test_what_is_lost_is_rescued_once_by_recoveries_that_look_together(
    router, make_connections, published
):
    connections = make_connections(3)
    for number in range(ROUNDS):
        router.queue_message("I", connections[:1], f"ping {number}")
        send(f"broadcast {number}", connections)
    published()
    engine().claim_batches(connections[0].backend_id, uuid4(), ROUNDS)
    Transmission.objects.filter(message__direction="O").update(status=Status.PROCESSING, attempts=1)
    past = now().replace(year=2000)
    Batch.objects.update(recover_at=past)
    Message.objects.update(recover_at=past)

    found = in_threads(*[recovery.recover] * CLAIMERS)

    inbound = Message.objects.filter(direction=Direction.INCOMING)
    assert set(inbound.values_list("publishes", flat=True)) == {1}
    told = [kwargs["message_id"] for name, kwargs in published() if name == "receive_async"]
    assert sorted(told) == sorted(inbound.values_list("pk", flat=True))
    assert sum(each.resent for each in found) == 3 * ROUNDS
    assert not Batch.objects.claimed().exists()
    assert Batch.objects.count() == ROUNDS
    outbound = Transmission.objects.filter(message__direction="O")
    assert set(outbound.values_list("status", "attempts")) == {(Status.QUEUED, 1)}


def test_recovery_is_the_turn_of_one_worker(router, make_connections):
    make_connections(1)

    assert sorted(in_threads(*[RecoverySchedule.objects.claim] * CLAIMERS)) == [
        False,
        False,
        False,
        True,
    ]
