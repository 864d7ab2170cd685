"""Apps and backends are built whole or not at all, and what needs them waits meanwhile."""

from __future__ import annotations

import time

import pytest
from django.utils import timezone, translation
from rapidsms.backends.base import BackendBase
from rapidsms.models import Backend
from rapidsms.router import get_router, receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import BackendNotConfigured, RouterNotBuilt
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Message
from rapidsms_db_router.outbound.calls import Inline
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.signals import transmissions_sent
from rapidsms_db_router.worker import building, routers
from tests.integration.clocks import Clock
from tests.service.app import ServiceApp
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

SECRET = "s3cret"
FAULTS = (OSError(SECRET), KeyError("phones"), RuntimeError(SECRET))


class Fault:
    """Has something raise, until it is mended."""

    def __init__(self):
        self.error = None

    def __call__(self, *args, **kwargs):
        if self.error is not None:
            raise self.error


@pytest.fixture
def app_fault(monkeypatch):
    """The fault of the app's ``__init__``."""
    fault, build = Fault(), ServiceApp.__init__

    def init(self, router):
        fault()
        build(self, router)

    monkeypatch.setattr(ServiceApp, "__init__", init)
    monkeypatch.setattr(building, "BUILD_AGAIN", 0.0)
    return fault


@pytest.fixture
def backend_fault(installed_backends):
    """The fault of the ``configure()`` of ``phones``; ``other``, which comes later, has none."""
    fault = Fault()

    class Faulty(RecordingBackend):
        def configure(self, **kwargs):
            fault()

    installed_backends["phones"]["ENGINE"] = Faulty
    installed_backends["other"] = {"ENGINE": RecordingBackend}
    return fault


# Apps


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_an_inbound_message_waits_until_all_apps_can_be_built(
    worker, person, app_fault, calls, caplog, error
):
    with worker.commit():
        message = receive("ping", person).dbm
    [task] = worker.take()
    app_fault.error = error
    Message.objects.update(recover_at=now())
    for _ in range(10):  # more often than the apps may be started
        worker.run(task)
        [task] = worker.take()  # the same again
        assert (task.name, task.kwargs["message_id"]) == ("receive_async", message.pk)
        assert task.eta is not None
    message.refresh_from_db()
    assert (message.status, message.attempts, message.claim_token) == ("Q", 0, None)
    assert message.recover_at > now()  # no copies of a task that comes again
    assert not Message.objects.filter(direction="O").exists()
    app_fault.error = None
    worker.run(task)
    worker.step()
    message.refresh_from_db()
    assert (message.status, [call.text for call in calls]) == ("R", ["pong"])
    assert SECRET not in caplog.text
    assert "app_not_built app=tests.service" in caplog.text
    assert "task_put_off" in caplog.text


def test_an_app_is_built_again_no_more_than_once_a_second(app_fault, monkeypatch, caplog):
    monkeypatch.undo()
    monkeypatch.setattr(ServiceApp, "__init__", app_fault)
    app_fault.error = FAULTS[0]
    router = get_router()
    for _ in range(5):
        with pytest.raises(RouterNotBuilt):
            router.require_apps()
    assert caplog.text.count("app_not_built") == 1
    begun = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: begun() + 1.1)
    with pytest.raises(RouterNotBuilt):
        router.require_apps()
    assert caplog.text.count("app_not_built") == 2


def test_in_eager_mode_an_inbound_message_is_stored_and_waits(person, app_fault, calls):
    app_fault.error = FAULTS[0]
    message = receive("ping", person).dbm
    message.refresh_from_db()
    assert (message.status, message.attempts, calls) == ("Q", 0, [])


def test_a_message_of_an_eager_backend_is_left_to_a_worker(
    worker, person, app_fault, installed_backends, calls
):
    installed_backends["phones"]["router.db.eager"] = True
    app_fault.error = FAULTS[0]
    with worker.commit():
        receive("ping", person)
    app_fault.error = None
    worker.work()
    assert [call.text for call in calls] == ["pong"]


def test_a_database_error_of_an_app_does_not_spoil_the_transaction_around(person, app_fault):
    def query(*args):
        Message.objects.extra(where=["no_such_column = 1"]).count()

    app_fault.__class__ = type("Query", (Fault,), {"__call__": query})
    message = receive("ping", person).dbm  # eagerly, in the transaction of the test
    assert Message.objects.get(pk=message.pk).status == "Q"


def test_a_message_is_sent_past_an_app_that_cannot_be_built(worker, person, app_fault, calls):
    app_fault.error = FAULTS[0]
    with worker.commit():
        message = send("news", person).database_message
    worker.work()
    message.refresh_from_db()
    assert (message.status, len(calls)) == ("S", 1)


# Backends


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_a_backend_that_cannot_be_built_keeps_its_messages_and_no_others(
    worker, people, backend_fault, calls, monkeypatch, caplog, error
):
    clock = Clock(monkeypatch)
    sender = Sender(Inline(routers.router), clock=clock)
    backend_fault.error = error
    with worker.commit():
        message = send("news", [*people(2), *people(2, "other")]).database_message
    for _ in range(300):
        for backend in Backend.objects.all():
            sender.wake(backend)
        sender.step()
        clock.go_on(1)
    rows = message.transmissions.order_by("pk")
    assert [(row.status, row.attempts) for row in rows] == 2 * [("Q", 0)] + 2 * [("S", 1)]
    assert "RouterNotBuilt" in operators.describe(Backend.objects.get(name="phones"))
    assert operators.describe(Backend.objects.get(name="other")) == "working"
    backend_fault.error = None
    for _ in range(600):
        sender.step()
        clock.go_on(1)
    assert [(row.status, row.attempts) for row in rows.all()] == 4 * [("S", 1)]
    assert SECRET not in caplog.text
    assert "backend_not_built backend=phones" in caplog.text


def test_a_backend_that_nobody_configured_is_another_matter(installed_backends, backend_fault):
    backend_fault.error = FAULTS[1]
    router = get_router()
    told = {"id_": 1, "text": "news", "identities": ["1"], "context": {}}
    with pytest.raises(RouterNotBuilt, match="'phones' cannot be built: KeyError"):
        router.send_to_backend(backend_name="phones", **told)
    with pytest.raises(BackendNotConfigured):
        router.send_to_backend(backend_name="gone", **told)
    router.send_to_backend(backend_name="other", **told)


def test_a_router_that_cannot_be_built_at_all_loses_nothing(
    worker, person, settings, calls, received
):
    with worker.commit():
        receive("ping", person)
        message = send("news", person).database_message
    settings.RAPIDSMS_ROUTER = "no.such.Router"
    task, *_ = worker.take()
    worker.run(task)
    [again] = worker.take()
    worker.sender.wake(person.backend)
    worker.step()
    assert (calls, received) == ([], [])
    message.refresh_from_db()
    assert [row.status for row in message.transmissions.all()] == ["Q"]
    settings.RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
    operators.resume(person.backend)
    worker.run(again)
    worker.sender.wake(person.backend)
    worker.step()
    assert sorted(call.text for call in calls) == ["news", "pong"]


def test_backends_are_a_dictionary_by_name(installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    router = get_router()
    assert list(router.backends) == ["phones", "other"]
    assert ("phones" in router.backends, "gone" in router.backends) == (True, False)
    router.add_backend("added", RecordingBackend)
    assert [backend.name for backend in router.backends.values()] == ["phones", "other", "added"]
    del router.backends["phones"]
    assert len(router.backends) == 2
    assert router.backends["other"] is router.backends["other"]


# How long


def test_a_router_is_kept_for_five_minutes(monkeypatch):
    before = routers.router()
    begun = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: begun() + 290)
    assert routers.router() is before
    monkeypatch.setattr(time, "monotonic", lambda: begun() + 310)
    assert routers.router() is not before
    assert routers.router() is routers.router()


# Language and time zone


def where():
    return translation.get_language(), timezone.get_current_timezone_name()


@pytest.fixture
def places(monkeypatch, installed_backends):
    """Where an app, a backend and a receiver found themselves; each goes elsewhere."""
    places = []

    def go(*args, **kwargs):
        places.append(where())
        translation.activate("sw")
        timezone.activate("Pacific/Kiritimati")

    class Travelling(BackendBase):
        send = go

    installed_backends["phones"]["ENGINE"] = Travelling
    monkeypatch.setattr(ServiceApp, "parse", go)
    transmissions_sent.connect(go)
    yield places
    transmissions_sent.disconnect(go)


def test_each_message_and_each_call_begins_in_the_language_of_the_settings(worker, person, places):
    home = where()
    with worker.commit():
        receive("ping", person)
        receive("ping", person)
    worker.work()
    assert places == 6 * [home]  # two apps, two calls, two receivers
    assert where() == home


def test_in_eager_mode_too_and_the_caller_stays_where_it_was(person, places, settings):
    with translation.override("fr"), timezone.override("Asia/Kathmandu"):
        before = where()
        receive("ping", person)
        assert where() == before
    assert places == 3 * [(settings.LANGUAGE_CODE, settings.TIME_ZONE)]
