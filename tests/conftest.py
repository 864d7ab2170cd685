"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from rapidsms.models import Connection
from rapidsms.router import lookup_connections

from rapidsms_db_router.limits import loops
from tests.service import app, backends


@pytest.fixture(autouse=True)
def _nothing_recorded_yet() -> Iterator[None]:
    loops.forget()
    yield
    app.received.clear()
    backends.calls.clear()


@pytest.fixture
def calls() -> list[backends.Call]:
    """Every call of a backend so far."""
    return backends.calls


@pytest.fixture
def received() -> list[Any]:
    """Every message object the app has seen so far."""
    return app.received


@pytest.fixture
def installed_backends(settings: Any) -> dict[str, dict[str, Any]]:
    """INSTALLED_BACKENDS, to be changed by the test; ``phones`` accepts everything."""
    settings.INSTALLED_BACKENDS = {
        "phones": {"ENGINE": "tests.service.backends.RecordingBackend"},
    }
    return settings.INSTALLED_BACKENDS


@pytest.fixture
def people(db: None) -> Callable[..., list[Connection]]:
    """A function that returns so many connections of a backend."""

    def people(count: int, backend: str = "phones") -> list[Connection]:
        return lookup_connections(backend, [f"+25470000{n:04}" for n in range(count)])

    return people


@pytest.fixture
def person(people: Callable[..., list[Connection]]) -> Connection:
    """One connection of ``phones``."""
    return people(1)[0]


@pytest.fixture
def celery_setting(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """A function that changes one setting of the Celery app."""
    app = current_app
    app.conf.broker_url  # noqa: B018 - has Celery read its settings before they are changed

    def change(name: str, value: Any) -> None:
        monkeypatch.setitem(app.conf.changes, name, value)

    return change
