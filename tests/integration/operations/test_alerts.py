"""People are told of an incident that lasts, once, and once more when it is over."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core import mail

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState
from rapidsms_db_router.operations import alerts
from rapidsms_db_router.operations.models import Alert
from rapidsms_db_router.operations.signals import incident_began, incident_ended

pytestmark = [
    pytest.mark.django_db,
    # a matter of the project: how Django 6.1 is told of a mail server
    pytest.mark.filterwarnings("ignore:Django 2028 will not have a default mailer"),
]

MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _managers(settings: Any) -> None:
    address = "night@example.org"
    settings.MANAGERS = [address if django.VERSION >= (6, 0) else ("Night watch", address)]


@pytest.fixture
def told() -> Iterator[list[tuple[str, str]]]:
    """The signals that were sent."""
    found: list[tuple[str, str]] = []

    def began(code: str, **_: Any) -> None:
        found.append(("began", code))

    def ended(code: str, **_: Any) -> None:
        found.append(("ended", code))

    incident_began.connect(began)
    incident_ended.connect(ended)
    yield found
    incident_began.disconnect(began)
    incident_ended.disconnect(ended)


@pytest.fixture
def outage(person: Any) -> Any:
    """A backend that is out of order."""
    BackendState.objects.create(
        backend=person.backend,
        failures=3,
        open_until=now() + 60 * MINUTE,
        opened_at=now(),
        reason="HTTP 403",
    )
    return person.backend


def lasted(minutes: int) -> None:
    for alert in Alert.objects.all():
        Alert.objects.filter(pk=alert.pk).update(since=alert.since - minutes * MINUTE)


def test_a_short_incident_is_no_mail(outage, told):
    alerts.follow()
    lasted(4)
    alerts.follow()
    operators.resume(outage)
    alerts.follow()
    assert told == [("began", "out_of_order"), ("ended", "out_of_order")]
    assert mail.outbox == []


def test_an_incident_that_lasts_is_mailed_once_and_its_end_once(outage, told):
    alerts.follow()
    lasted(6)
    for _ in range(3):
        alerts.follow()
    assert [each.subject for each in mail.outbox] == ["[Django] phones: out of order"]
    assert "HTTP 403" in mail.outbox[0].body
    operators.resume(outage)
    for _ in range(2):
        alerts.follow()
    assert [each.subject for each in mail.outbox[1:]] == ["[Django] phones: out of order: over"]


def test_a_mail_server_that_is_away_stops_nothing(outage, monkeypatch, caplog):
    def away(*_):
        raise ConnectionRefusedError("no mail server")

    monkeypatch.setattr(alerts, "mail_managers", away)
    alerts.follow()
    lasted(6)
    alerts.follow()
    assert "alert_not_mailed error=ConnectionRefusedError" in caplog.messages


def test_mails_can_be_turned_off(outage, settings):
    settings.DB_ROUTER_ALERT_AFTER = None
    alerts.follow()
    lasted(60)
    alerts.follow()
    assert mail.outbox == []
