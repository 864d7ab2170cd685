"""A sender that ends tells others of what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router.models import Batch, Transmission
from rapidsms_db_router.outbound.sender import Sender
from tests.integration.conftest import Worker
from tests.integration.executors import SlowGateway


@pytest.fixture
def gateway() -> SlowGateway:
    """A gateway that takes its time."""
    return SlowGateway()


@pytest.fixture
def rung() -> list[Backend]:
    """The backends for which other processes were told to look."""
    return []


@pytest.fixture
def sender(
    worker: Worker,
    gateway: SlowGateway,
    rung: list[Backend],
    people: Callable[[int], list[Connection]],
    installed_backends: dict[str, dict[str, Any]],
    settings: Any,
) -> Sender:
    """A sender that may call one of three people at a time, and knows of it."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    installed_backends["phones"]["router.db.concurrency"] = 1
    with worker.commit():
        send("news", people(3))
    sender = Sender(gateway, ring=rung.append)
    sender.wake(Backend.objects.get())
    return sender


def end(sender: Sender) -> None:
    sender.drain()
    sender.step()
    assert sender.is_done
    sender.close()


def test_others_are_told_of_what_is_left(
    sender: Sender, gateway: SlowGateway, rung: list[Backend]
) -> None:
    sender.step()
    sender.drain()
    sender.step()
    gateway.answer(0)
    rung.clear()

    end(sender)

    assert rung == [Backend.objects.get()]
    assert Batch.objects.filter(claim_token=None).count() == 2
    assert sorted(Transmission.objects.values_list("status", flat=True)) == ["Q", "Q", "S"]


def test_others_are_not_told_if_nothing_is_left(
    sender: Sender, gateway: SlowGateway, rung: list[Backend]
) -> None:
    for number in range(3):
        sender.step()
        gateway.answer(number)
    sender.step()
    rung.clear()

    end(sender)

    assert rung == []


def test_others_are_not_told_by_a_sender_that_has_done_nothing(
    sender: Sender, rung: list[Backend]
) -> None:
    """Else processes that end after each task would go on calling each other."""
    end(sender)

    assert rung == []
