"""What a worker's thread keeps from task to task, and when it does not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections
from django.test import override_settings
from rapidsms.router import receive

from rapidsms_db_router.worker import connections as kept
from rapidsms_db_router.worker import routers
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

# The router


def test_the_router_is_built_once():
    router = routers.router()
    assert (routers.router(), routers.router().backends) == (router, router.backends)


@pytest.mark.parametrize("name", ["RAPIDSMS_HANDLERS", "DB_ROUTER_MAX_RETRIES"])
def test_the_router_is_built_again_when_a_setting_has_changed(name):
    before = routers.router()
    with override_settings(**{name: ()}):
        assert routers.router() is not before


def test_the_router_is_built_again_when_backends_were_changed_in_place(installed_backends):
    assert "other" not in routers.router().backends
    installed_backends["other"] = {"ENGINE": RecordingBackend}
    assert "other" in routers.router().backends
    installed_backends["other"]["ENGINE"] = "tests.service.backends.FailingBackend"
    assert type(routers.router().backends["other"]) is not RecordingBackend


def test_each_thread_has_a_router_of_its_own():
    with ThreadPoolExecutor(1) as other:
        assert other.submit(routers.router).result() is not routers.router()


def test_apps_and_backends_are_not_built_to_store_a_message(worker, person, settings):
    settings.INSTALLED_BACKENDS = {"phones": {"ENGINE": "no.such.Backend"}}
    assert receive("ping", person).dbm.status == "Q"


# The connection


@pytest.fixture
def in_worker(monkeypatch, transactional_db):
    """A function that runs another in the one thread of a worker, as a task."""
    monkeypatch.setattr(kept, "_in_worker", True)

    def task(body):
        connections.close_all()  # as Celery does before and after each
        try:
            with kept.connected():
                return body()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        yield lambda body: thread.submit(task, body).result()
        thread.submit(lambda: vars(kept._kept)["connection"][0].close())


def used():
    """Use the connection; return what is behind it."""
    connections["default"].ensure_connection()
    return connections["default"].connection


def test_the_connection_is_kept_from_task_to_task(in_worker):
    assert in_worker(used) is in_worker(used)


def test_a_connection_that_broke_is_not_kept(in_worker):
    def broken():
        connection = used()
        connections["default"].errors_occurred = True
        return connection

    before = in_worker(broken)
    assert in_worker(used) is not before


#: How to end a connection from another one.
END = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
    "mysql": ("SELECT CONNECTION_ID()", "KILL %s"),
}


def test_a_connection_that_the_server_ended_meanwhile_is_replaced(in_worker, monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("has no server")
    who, end = END[connection.vendor]
    monkeypatch.setattr(kept, "TRUSTED_FOR", 0)

    def ask():
        with connections["default"].cursor() as cursor:
            cursor.execute(who)
            return cursor.fetchone()[0]

    before = in_worker(ask)
    with connection.cursor() as cursor:
        cursor.execute(end, [before])
    assert in_worker(ask) != before


def test_a_connection_is_not_kept_for_ever(in_worker, monkeypatch):
    before = in_worker(used)
    monkeypatch.setattr(kept, "LONGEST_KEPT", 0)
    assert in_worker(used) is not before
