"""Of workers that notice the same thing at the same instant one tells."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.limits import permits
from rapidsms_db_router.limits.circuit import Outage
from rapidsms_db_router.models import BackendState, Batch, Message
from rapidsms_db_router.recovery import backlog
from tests.concurrency.parallel import in_threads
from tests.service.hearing import hearing

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 5


@pytest.fixture
def told():
    with hearing("circuit_opened", "circuit_closed", "backlog_old") as told:
        yield told


def test_a_circuit_is_opened_and_closed_by_one_worker(router, make_connections, told):
    backend = make_connections(1)[0].backend

    def record(outage):
        def write():
            with transaction.atomic():
                permits.record(backend, [(outage, False)], lambda job: job())

        insist(write)

    for _ in range(ROUNDS):
        in_threads(*4 * [lambda: record(Outage("HTTP 503", retry_after=60))])
        in_threads(*4 * [lambda: record(None)])
    assert [name for name, _ in told] == ROUNDS * ["circuit_opened", "circuit_closed"]


def test_a_backlog_is_told_by_one_worker(router, make_connections, told):
    backend = make_connections(1)[0].backend
    date = now() - datetime.timedelta(hours=1)
    message = Message.objects.create(direction="O", text="x", status="Q", date=date)
    Batch.objects.create(
        message=message, backend=backend, transmission_ids=[1], due_at=date, ready_at=date
    )
    for _ in range(ROUNDS):
        in_threads(*4 * [lambda: insist(backlog.follow)])
        BackendState.objects.update(backlog_since=None)
    assert [name for name, _ in told] == ROUNDS * ["backlog_old"]
