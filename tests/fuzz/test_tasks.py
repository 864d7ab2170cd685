"""Whatever a task is given: it raises nothing, and sends nothing that the gates forbid."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from celery import current_app
from celery.app.trace import trace_task
from django.db import transaction
from hypothesis import example, given
from hypothesis import strategies as st
from rapidsms.errors import MessageSendingError
from rapidsms.models import Backend
from rapidsms.router import lookup_connections, receive, send

from rapidsms_db_router import tasks
from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound.calls import Inline
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.worker import host, routers

pytestmark = pytest.mark.django_db

DAY = datetime.timedelta(days=1)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class Nth(int):
    """Stands for the id of the row with this number."""


class Own(int):
    """Stands for the message's own backend, or for so many of its transmissions."""


#: The number of the message that is not to be sent before tomorrow.
TOMORROW = 6
NTH = st.integers(0, 9).map(Nth)
ID = NTH | ANYTHING
IDS = st.integers(0, 2).map(Own) | st.lists(ID, max_size=8) | ANYTHING


@pytest.fixture(autouse=True)
def _settings(installed_backends, celery_setting) -> None:
    installed_backends["paused"] = {"ENGINE": "tests.service.backends.RecordingBackend"}
    celery_setting("task_always_eager", False)
    celery_setting("broker_url", "memory://")


@contextmanager
def messages() -> Iterator[tuple[list[Message], set[str]]]:
    """Store messages of all kinds; yield them with the texts that may not be sent."""
    with transaction.atomic():
        people, others = (
            lookup_connections(backend, ["+254700000001", "+254700000002"])
            for backend in ("phones", "paused")
        )
        operators.pause(Backend.objects.get(name="paused"))
        receive("ping", people[0])
        receive("has fields", people[0], fields={"a": 1})
        for text in ("news", "sent", "expired", "errored"):
            send(text, people)
        send("tomorrow", people, not_before=now() + DAY)
        send("to the paused", others)
        of = Transmission.objects.filter
        of(message__text="sent").update(status=Status.SENT)
        of(message__text="errored").update(status=Status.ERRORED)
        Message.objects.filter(text="expired").update(expires_at=now() - DAY)
        stored = list(Message.objects.order_by("pk"))
        yield stored, {"sent", "errored", "expired", "tomorrow", "to the paused"}
        transaction.set_rollback(True)


def named(said: Any, rows: list[Any]) -> Any:
    """Return what a task is given, with the ids that are meant."""
    if isinstance(said, Nth):
        return rows[said % len(rows)].pk
    return [named(each, rows) for each in said] if isinstance(said, list) else said


def run(task: Any, in_worker: bool, **arguments: Any) -> None:
    """Run a task as a worker does, with its sender; or call it."""
    if not in_worker:
        with suppress(MessageSendingError):
            task(**arguments)
        return
    sender = Sender(Inline(routers.router))
    request = {"id": "1", "is_eager": False, "delivery_info": {}}
    with host.stepped(sender):
        ended = trace_task(task, "1", (), arguments, request, app=current_app)
    assert ended.info is None, ended.info
    for _ in range(20):
        sender.step()


@example(in_worker=False, backend=Own(), message=Nth(TOMORROW), ids=Own(1))
@given(in_worker=st.booleans(), backend=st.just(Own()) | ID, message=ID, ids=IDS)
def test_send_transmissions(calls, in_worker, backend, message, ids):
    with messages() as (stored, forbidden):
        assert stored[TOMORROW].text == "tomorrow"
        rows = list(Transmission.objects.order_by("pk"))
        message = named(message, stored)
        own = [row for row in rows if row.message_id == message]
        if isinstance(backend, Own):
            backend = own[0].connection.backend_id if own else 0
        run(
            tasks.send_transmissions,
            in_worker,
            backend_id=named(backend, list(Backend.objects.all())),
            message_id=message,
            transmission_ids=[row.pk for row in own[:ids]]
            if isinstance(ids, Own)
            else named(ids, rows),
        )
    got = Counter((call.text, identity) for call in calls for identity in call.identities)
    calls.clear()
    assert not forbidden & {text for text, _ in got}
    assert set(got.values()) <= {1}


@given(in_worker=st.booleans(), message=ID, fields=ANYTHING)
def test_receive_async(received, in_worker, message, fields):
    with messages() as (stored, _):
        message = named(message, stored)
        run(tasks.receive_async, in_worker, message_id=message, fields=fields)
        assert not Message.objects.filter(direction="I", status=Status.ERRORED).exists()
    seen = [msg.text for msg in received]
    received.clear()
    assert len(seen) <= 1 and set(seen) <= {"ping", "has fields"}


@given(in_worker=st.booleans(), delivery_reports=st.lists(ANYTHING, max_size=4) | ANYTHING)
def test_record_delivery_reports(in_worker, delivery_reports):
    with messages():
        before = list(Transmission.objects.order_by("pk").values_list("pk", "status"))
        run(tasks.record_delivery_reports, in_worker, delivery_reports=delivery_reports)
        assert list(Transmission.objects.order_by("pk").values_list("pk", "status")) == before
