"""Nothing is taken from a worker that is alive, however long a gateway or an app takes."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connections
from rapidsms.apps.base import AppBase
from rapidsms.router import receive, send

from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.recovery import Found, recover
from rapidsms_db_router.worker import leases
from tests.integration.clocks import Clock
from tests.integration.executors import SlowGateway

#: How long a lease counts, in seconds; a third of it is enough for a busy machine to renew it.
TIMEOUT = 3
#: What is waited for has come by then, in seconds.
PATIENCE = 30


# Batches, by their sender


@pytest.fixture
def gateway():
    return SlowGateway()


@pytest.fixture
def sender(gateway, monkeypatch, settings, installed_backends):
    """A sender whose calls may take an hour."""
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 600
    installed_backends["phones"]["router.db.timeout"] = 3600
    return Sender(gateway, clock=Clock(monkeypatch))


@pytest.fixture
def claimed(sender, worker, people):
    """A batch that the sender has claimed; its call is in flight."""
    with worker.commit():
        message = send("news", people(3)).database_message
    sender.wake(people(1)[0].backend)
    sender.step()
    return message.batches.get()


@pytest.mark.django_db
def test_a_call_that_takes_longer_than_a_lease_is_left_to_its_sender(sender, gateway, claimed):
    for _ in range(30):
        sender.clock.go_on(min(sender.next_step(), 200))
        sender.step()
        assert recover().counts() == Found().counts()
        claimed.refresh_from_db()
        assert (claimed.recover_at - now()).total_seconds() >= 390
    gateway.answer(0)
    sender.step()
    assert len(gateway.calls) == 1
    assert Message.objects.get().status == "S"


@pytest.mark.django_db
def test_a_sender_is_stepped_often_enough_to_renew_its_leases(sender, gateway, claimed):
    passed = 0.0
    while passed < 1200:
        seconds = sender.next_step()
        assert seconds <= 200
        sender.clock.go_on(max(seconds, 1))
        passed += max(seconds, 1)
        sender.step()
        assert not Batch.objects.lost().exists()


@pytest.mark.django_db
def test_a_sender_renews_its_leases_once_the_database_is_back(
    sender, gateway, claimed, monkeypatch
):
    def refused(*_):
        raise OperationalError("database is locked")

    with monkeypatch.context() as away:
        away.setattr(type(engine()), "renew", refused)
        away.setattr(type(engine()), "hold", refused)
        sender.clock.go_on(300)
        with pytest.raises(OperationalError):
            sender.step()
    sender.step()
    claimed.refresh_from_db()
    assert (claimed.recover_at - now()).total_seconds() == 600


# Inbound messages, by a thread


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
def slow(settings, monkeypatch):
    """An app that takes as long as the test says."""
    slow = Slow()

    class App(AppBase):
        def handle(self, msg):
            slow()
            return True

    settings.DB_ROUTER_VISIBILITY_TIMEOUT = TIMEOUT
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[App], backends={})
    # one that already runs may be in the middle of a longer pause
    monkeypatch.setattr(leases, "_thread", None)
    return slow


@pytest.mark.django_db(transaction=True)
def test_an_app_that_takes_longer_than_a_lease_is_left_to_its_worker(worker, person, slow):
    receive("text", person)
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
            first = last = Message.objects.get().recover_at
            deadline = time.monotonic() + PATIENCE
            while (last - first).total_seconds() < TIMEOUT:
                assert time.monotonic() < deadline, "the lease is not renewed"
                assert recover().counts() == Found().counts()
                time.sleep(0.1)
                last = Message.objects.get().recover_at
        finally:
            slow.end.set()
        running.result()

    assert slow.calls == 1
    assert worker.take() == []
    assert list(Message.objects.values_list("status", "recover_at")) == [("R", None)]


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_renewed_once_the_database_is_back(monkeypatch, settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 0.3
    token = uuid.uuid4()
    message = Message.objects.create(direction="I", text="text", claim_token=token)
    refused = threading.Event()
    lease = leases.lease

    def failing_first():
        if refused.is_set():
            return lease()
        refused.set()
        raise ConnectionError("the database is away")

    monkeypatch.setattr(leases, "lease", failing_first)
    monkeypatch.setattr(leases, "_thread", None)
    with leases.renewed(message.pk, token):
        deadline = time.monotonic() + PATIENCE
        while message.recover_at is None:
            assert time.monotonic() < deadline, "the lease is not renewed"
            time.sleep(0.05)
            message.refresh_from_db()
    assert refused.is_set()
