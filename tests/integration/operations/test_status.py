"""The state of the router, for monitoring: a command with exit statuses, and metrics."""

from __future__ import annotations

import datetime
import io
import json

import pytest
from django.core import checks
from django.core.management import call_command

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState, Batch, RecoverySchedule
from rapidsms_db_router.operations import metrics
from rapidsms_db_router.operations.tallies import filling

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


def status(*arguments: str) -> tuple[str, int]:
    out = io.StringIO()
    try:
        call_command("router_status", *arguments, stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def test_all_is_well(person, stored):
    stored(person)
    filling.fill()
    text, code = status("--check")
    assert code == 0
    assert text.startswith("OK: no incident\nphones: working; 0 waiting, 0 later")
    assert "last day 1 sent" in text


def test_a_backend_that_is_behind_is_a_warning(person, stored):
    row = stored(person, HOUR, "Q")
    Batch.objects.create(
        message=row.message,
        backend=person.backend,
        transmission_ids=[row.pk, row.pk + 1],
        due_at=row.date,
    )
    text, code = status("--check")
    assert code == 1
    assert "phones is behind: 2 SMS wait, the oldest for 1" in text


def test_an_outage_is_critical(person):
    BackendState.objects.create(
        backend=person.backend, open_until=now() + HOUR, opened_at=now(), reason="HTTP 403"
    )
    text, code = status("--check", "--json")
    assert code == 2
    told = json.loads(text)
    assert told["status"] == "CRITICAL"
    assert told["incidents"][0]["code"] == "out_of_order"
    assert told["backends"]["phones"]["out_of_order"] is True


def test_no_worker_is_critical():
    RecoverySchedule.objects.create(pk=1, next_look=now() - HOUR)
    assert status("--check")[1] == 2


def test_without_check_the_exit_status_is_0(person):
    RecoverySchedule.objects.create(pk=1, next_look=now() - HOUR)
    assert status()[1] == 0


def test_metrics_have_every_backend(person, stored):
    stored(person)
    filling.fill()
    text = metrics.exposition().decode()
    assert 'rapidsms_router_working{backend="phones"} 1.0' in text
    assert 'rapidsms_router_transmissions{backend="phones",outcome="sent"} 1.0' in text
    assert 'rapidsms_router_transmissions{backend="phones",outcome="failed"} 0.0' in text
    assert 'rapidsms_router_calls_allowed{backend="phones"} 50.0' in text


def test_metrics_are_told_to_a_scraper_that_knows_the_secret(client, person):
    assert client.get("/metrics").status_code == 403
    answer = client.get("/metrics", headers={"Authorization": "Bearer of the scraper"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    assert b"rapidsms_router_incidents" in answer.content


@pytest.mark.parametrize("value", [-1, "300", True, float("nan")])
def test_a_wrong_time_for_alerts_is_an_error(settings, value):
    settings.DB_ROUTER_ALERT_AFTER = value
    errors = checks.run_checks()
    assert [each.id for each in errors if "ALERT" in each.msg] == [
        "rapidsms_db_router_operations.E001"
    ]
