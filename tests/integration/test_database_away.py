"""A database that goes away while an inbound message is processed delays it, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from rapidsms.models import Connection
from rapidsms.router import receive

from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Message
from rapidsms_db_router.outbound.outbox import Outbox
from tests.integration.conftest import Worker
from tests.service.app import ServiceApp
from tests.service.backends import Call

pytestmark = pytest.mark.django_db(transaction=True)

LOST = OperationalError(2013, "Lost connection to server during query")


def once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, done: bool) -> None:
    """Have the connection be lost the first time that a method is called.

    :param done: whether it has done its work by then.
    """
    method: Callable[..., Any] = getattr(owner, name)
    calls = []

    def loses_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        first = len(calls) == 1
        result = method(*args, **kwargs) if done or not first else None
        if first:
            raise LOST
        return result

    monkeypatch.setattr(owner, name, loses_once)


@pytest.fixture
def answered(worker: Worker, person: Connection, calls: list[Call]) -> Callable[[], None]:
    """A function that has a message processed, and checks that it is answered once."""
    receive("ping", person)
    (task,) = worker.take()

    def answered() -> None:
        worker.run(task)
        worker.work()
        assert [call.text for call in calls] == ["pong"]
        stored = Message.objects.order_by("pk").values_list("direction", "status", "claim_token")
        assert list(stored) == [("I", "R", None), ("O", "S", None)]

    return answered


@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
def test_connection_is_lost_by_the_claim(
    monkeypatch: pytest.MonkeyPatch, answered: Callable[[], None], done: bool
) -> None:
    once(monkeypatch, type(engine()), "claim_inbound", done=done)
    answered()


def test_connection_is_lost_by_an_app(
    monkeypatch: pytest.MonkeyPatch, answered: Callable[[], None]
) -> None:
    once(monkeypatch, ServiceApp, "handle", done=False)
    answered()


def test_connection_is_lost_by_the_commit_of_the_end(
    monkeypatch: pytest.MonkeyPatch, answered: Callable[[], None]
) -> None:
    once(monkeypatch, Outbox, "flush", done=False)
    answered()
