"""Reports before the id they speak of: kept in a bounded number, for the right message alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import EarlyReport, early_report
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.reports import follow_early, record
from tests.integration.conftest import statuses
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db


class Naming(RecordingBackend):
    """Returns an id for each; perhaps after having reported it."""

    early = ()
    ids: dict[str, str] = {}

    def send(self, id_, identities, **kwargs):
        """Report, then return an id for each."""
        super().send(id_=id_, identities=identities, **kwargs)
        for report in Naming.early:
            record(**{"outcome": "delivered", **report})
        return {each: Naming.ids.get(each, f"id of {each}") for each in identities}


@pytest.fixture
def naming(installed_backends, monkeypatch):
    installed_backends["phones"]["ENGINE"] = Naming
    monkeypatch.setattr(Naming, "early", ())
    monkeypatch.setattr(Naming, "ids", {})
    return Naming


FIRST = "+254700000000"


@pytest.mark.parametrize(
    ("said", "moves"),
    [
        ({}, True),
        ({"backend_name": "phones"}, True),
        ({"backend_name": "elsewhere"}, False),
        ({"identity": "0700000000"}, True),
        ({"identity": "+254711111111"}, False),
        ({"message_id": 10**9}, False),
    ],
)
def test_an_early_report_remembers_what_it_named(naming, sent, said, moves):
    naming.early = ({"external_id": f"id of {FIRST}", **said},)
    message, _ = sent()
    assert statuses(message) == ("DD" if moves else "SS")
    assert not EarlyReport.objects.filter(backend__name="phones").exists()


def test_an_early_report_of_one_id_for_several_moves_the_named_one(naming, sent, people):
    everybody = [person.identity for person in people(3)]
    naming.ids = dict.fromkeys(everybody, "the call")
    naming.early = ({"external_id": "the call", "identity": everybody[1]},)
    message, _ = sent(3)
    assert statuses(message) == "SSDS"


def test_of_several_early_reports_the_one_that_says_most_counts(naming, sent):
    outcomes = ("accepted", "delivered", "failed", "buffered")
    naming.early = [{"external_id": f"id of {FIRST}", "outcome": each} for each in outcomes]
    message, _ = sent()
    assert statuses(message) == "DD"


def test_a_report_that_came_before_the_message_is_of_another(naming, sent):
    record("delivered", external_id=f"id of {FIRST}")
    EarlyReport.objects.update(received=now() - timedelta(minutes=1))
    message, _ = sent()
    assert statuses(message) == "SS"


@pytest.mark.parametrize(
    "engine",
    [
        "rapidsms.backends.kannel.KannelBackend",
        "rapidsms.backends.vumi.VumiBackend",
        "rapidsms.backends.database.DatabaseBackend",
        "rapidsms_db_router.gateways.kannel.KannelBackend",
    ],
)
def test_no_report_is_kept_for_backends_that_return_no_ids(installed_backends, person, engine):
    installed_backends["phones"]["ENGINE"] = engine
    assert not record("delivered", external_id="id")
    assert not record("delivered", external_id="id", backend_name="phones")
    installed_backends["other"] = {"ENGINE": Naming}
    assert not record("delivered", external_id="id", backend_name="phones")
    assert not EarlyReport.objects.exists()


# Bounds


def test_of_one_id_a_handful_is_kept_and_each_once():
    for number in range(20):
        for _ in range(2):
            record("delivered", external_id="id", identity=f"+{number}")
    kept = EarlyReport.objects.values_list("identity", flat=True)
    assert sorted(kept) == [f"+{number}" for number in range(early_report.MOST_OF_AN_ID)]


def test_the_oldest_make_room(monkeypatch, caplog):
    monkeypatch.setattr(early_report, "MOST", 30)
    monkeypatch.setattr("rapidsms_db_router.reports.recording.ROUND", 20)
    for number in range(120):
        record("delivered", external_id=f"id {number}")
    kept = EarlyReport.objects.order_by("pk").values_list("external_id", flat=True)
    assert 30 <= len(kept) <= 30 + 20
    assert kept[len(kept) - 1] == "id 119"
    assert "reports_expired count=" in caplog.text


def test_a_row_is_small():
    record("failed", external_id="x" * 9999, identity="y" * 9999, reason="z" * 9999)
    row = EarlyReport.objects.values().get()
    assert sum(len(str(value)) for value in row.values()) < 1000


def test_recovery_deletes_what_has_waited_for_a_day_and_says_how_many(monkeypatch, caplog):
    monkeypatch.setattr(early_report, "CHUNK", 3)
    for number in range(10):
        record("delivered", external_id=f"old {number}")
    EarlyReport.objects.update(received=now() - early_report.KEPT)
    record("delivered", external_id="new")
    recover(dry_run=True)
    assert EarlyReport.objects.count() == 11
    recover()
    assert [report.external_id for report in EarlyReport.objects.all()] == ["new"]
    warnings = [r.getMessage() for r in caplog.records if r.getMessage().startswith("reports_exp")]
    assert warnings == ["reports_expired count=10"]


def test_a_call_without_early_reports_costs_one_query(person, django_assert_num_queries):
    for number in range(10):
        record("delivered", external_id=f"another {number}")
    with django_assert_num_queries(1):
        follow_early({f"id {number}": [number] for number in range(100)}, person.backend_id)


def test_early_reports_of_a_call_are_followed_together(
    naming, sent, people, django_assert_max_num_queries
):
    message, rows = sent(100)
    for row in rows:
        EarlyReport.objects.create(external_id=row.external_id, outcome="delivered")
    with django_assert_max_num_queries(25):
        follow_early({row.external_id: [row.pk] for row in rows}, rows[0].connection.backend_id)
    assert statuses(message) == 101 * "D"
    assert not EarlyReport.objects.exists()


def test_the_admin_shows_what_has_come_too_early(admin_client):
    record("delivered", external_id="0xAB", reason="ok")
    page = admin_client.get(reverse("admin:rapidsms_db_router_earlyreport_changelist"))
    assert "0xAB" in page.content.decode()
    assert "1 early report" in page.content.decode()
