"""Users of the pages, and transmissions as if they were of some time ago."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from rapidsms.router import send

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.operations.tallies import filling

DAY = datetime.timedelta(days=1)
#: After how many days something goes, in the tests of retention.
DAYS = {"text": 30, "delivered": 90, "failed": 365}


@pytest.fixture
def operator(db: None) -> Callable[..., Client]:
    """A function that returns a browser in which a user with some permissions is logged in."""

    def operator(*names: str) -> Client:
        user = User.objects.create_user(f"user{User.objects.count()}")
        codes = ["view_message", *names]
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
        client = Client()
        client.force_login(user)
        return client

    return operator


@pytest.fixture
def stored(db: None) -> Callable[..., Transmission]:
    """A function that stores a transmission as if it were of some time ago."""

    def stored(
        connection: Any,
        age: datetime.timedelta = datetime.timedelta(seconds=1),
        status: str = Status.SENT,
        direction: str = Direction.OUTGOING,
        original: Message | None = None,
        text: str = "x",
        **columns: Any,
    ) -> Transmission:
        date = now() - age
        message = Message.objects.create(
            direction=direction,
            text=text,
            status=status,
            date=date,
            in_response_to=original,
            segments=2,
        )
        return Transmission.objects.create(
            message=message, connection=connection, status=status, date=date, **columns
        )

    return stored


@pytest.fixture
def retention(settings: Any, tmp_path: Path) -> None:
    """Settings of retention, with a storage for archives."""
    settings.DB_ROUTER_RETENTION = DAYS
    settings.STORAGES = {
        **settings.STORAGES,
        "router_archive": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }


@pytest.fixture
def old(stored: Callable[..., Transmission]) -> Callable[..., Transmission]:
    """A function that stores a transmission whose message ended some days ago."""

    def old(
        person: Any, days: int, status: str = Status.SENT, *args: Any, **columns: Any
    ) -> Transmission:
        row = stored(person, days * DAY, status, *args, **columns)
        Transmission.objects.filter(pk=row.pk).update(updated=row.date)
        Message.objects.filter(pk=row.message_id).update(updated=row.date)
        return row

    return old


@pytest.fixture
def broadcast(worker: Any, people: Callable[..., Any]) -> Message:
    """A broadcast to thirty people, of which nothing is sent yet."""
    with worker.commit():
        message = send("Clinic opens at 8.", people(30)).database_message
    filling.fill()
    return Message.objects.get(pk=message.pk)


@pytest.fixture
def strict(operator: Callable[..., Client], settings: Any) -> Callable[..., Client]:
    """Like ``operator``, in a browser whose forms need their token."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]

    def strict(*names: str) -> Client:
        client = operator(*names)
        client.handler.enforce_csrf_checks = True
        return client

    return strict
