"""A sender looks again by itself at the date of each batch that it has given back."""

from __future__ import annotations

from collections.abc import Callable

from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch
from rapidsms_db_router.outbound.sender import Sender
from tests.integration.conftest import Worker
from tests.integration.executors import SlowGateway


def test_each_retry_is_made_at_its_own_date(
    worker: Worker, people: Callable[[int], list[Connection]]
) -> None:
    moment = 0.0
    gateway = SlowGateway()
    sender = Sender(gateway, clock=lambda: moment)
    with worker.commit():
        for person in people(2):
            send("news", person)
    sender.wake(Backend.objects.get())
    sender.step()
    for number in range(2):
        gateway.answer(number, ValueError("refused"))
        sender.step()
        moment += 40  # retries follow in 45 to 75 seconds

    for number in range(2):
        Batch.objects.filter(message=gateway.calls[number].message).update(ready_at=now())
        sender.step()
        assert len(gateway.calls) == 3 + number
        moment += 100
