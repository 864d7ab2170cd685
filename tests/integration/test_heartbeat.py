"""Nothing is taken from the living, however long a gateway or an app takes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from rapidsms.apps.base import AppBase
from rapidsms.backends.base import BackendBase
from rapidsms.router import receive, send

from rapidsms_db_router import DatabaseRouter, heartbeat
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.recovery import Found, recover

pytestmark = pytest.mark.django_db(transaction=True)

#: How long the living may give no sign, in seconds; in a third of it even a busy machine beats.
TIMEOUT = 3
#: What is waited for has come by then, in seconds.
PATIENCE = 30


class Slow:
    """Begins, and ends when it is told to."""

    def __init__(self):
        self.begun = threading.Event()
        self.end = threading.Event()
        self.calls = 0

    def __call__(self):
        self.calls += 1
        self.begun.set()
        assert self.end.wait(PATIENCE)


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture(autouse=True)
def _slow_service(settings, monkeypatch, slow):
    class Gateway(BackendBase):
        def send(self, id_, text, identities, context=None):
            slow()

    class App(AppBase):
        def handle(self, msg):
            if msg.text == "answer":
                msg.respond("slowly")
            else:
                slow()
            return True

    settings.DB_ROUTER_VISIBILITY_TIMEOUT = TIMEOUT
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[App], backends={"phones": {"ENGINE": Gateway}})
    # one that already runs may be in the middle of a longer pause
    monkeypatch.setattr(heartbeat, "_thread", None)


@pytest.mark.parametrize(
    ("model", "store", "text", "statuses"),
    [
        (Batch, send, "text", "S"),
        (Message, receive, "text", "R"),
        (Message, receive, "answer", "RS"),
    ],
    ids=["out", "in", "reply"],
)
def test_what_takes_longer_than_the_visibility_timeout_is_left_to_who_is_at_it(
    worker, person, slow, model, store, text, statuses
):
    store(text, person)
    (task,) = worker.take()

    def run():
        try:
            worker.run(task)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            assert slow.begun.wait(PATIENCE)
            first = due = model.objects.get(due__isnull=False).due
            deadline = time.monotonic() + PATIENCE
            while (due - first).total_seconds() < TIMEOUT:
                assert time.monotonic() < deadline, "no sign of life"
                assert recover().counts() == Found().counts()
                time.sleep(0.1)
                due = model.objects.get(due__isnull=False).due
        finally:
            slow.end.set()
        running.result()

    assert slow.calls == 1
    assert worker.take() == []
    stored = Message.objects.order_by("pk").values_list("status", "due")
    assert list(stored) == [(status, None) for status in statuses]


def test_a_heart_goes_on_beating_after_the_database_was_away(person, monkeypatch, settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 0.3
    message = Message.objects.create(direction="I", text="text")
    missed = threading.Event()
    lease = heartbeat.lease

    def failing_first():
        if missed.is_set():
            return lease()
        missed.set()
        raise ConnectionError("the database is away")

    monkeypatch.setattr(heartbeat, "lease", failing_first)
    with heartbeat.kept(Message, message.pk, None):
        deadline = time.monotonic() + PATIENCE
        while message.due is None:
            assert time.monotonic() < deadline, "no sign of life"
            time.sleep(0.05)
            message.refresh_from_db()
    assert missed.is_set()
