"""The views for what gateways post by HTTP, whatever the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from rapidsms.models import Connection
from rapidsms.router import lookup_connections

from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView
from rapidsms_db_router.models import EarlyReport, Message, Transmission

pytestmark = pytest.mark.django_db

INBOUND = {"backend_name": "gateway"}
REPORT = {"backend_name": "gateway", "id": "id", "outcomes": {"ok": "delivered"}}


def posted(view: Any, said: Any) -> int:
    body = json.dumps(said).encode()
    request = RequestFactory().post("/", body, content_type="application/json")
    status: int = view(request).status_code
    return status


def sent(external_id: str) -> Transmission:
    (connection,) = lookup_connections("gateway", ["+256772000001"])
    message = Message.objects.create(direction="O", text="x", status="S")
    row: Transmission = Transmission.objects.create(
        message=message, connection=connection, status="S", external_id=external_id, attempts=1
    )
    return row


def broadcast(count: int) -> list[Transmission]:
    numbers = [f"+2567720{each:05}" for each in range(count)]
    message = Message.objects.create(direction="O", text="x", status="S")
    return [
        Transmission.objects.create(
            message=message, connection=each, status="S", external_id=f"g{place}", attempts=1
        )
        for place, each in enumerate(lookup_connections("gateway", numbers))
    ]


def again(rows: list[Transmission]) -> list[Transmission]:
    for row in rows:
        row.refresh_from_db()
    return rows


@pytest.mark.parametrize(
    ("view", "arguments", "words"),
    [
        (HttpInboundView, {"backend_name": ""}, "'backend_name' is ''"),
        (HttpInboundView, {"backend_name": None}, "'backend_name' is None"),
        (HttpInboundView, {"identity": ""}, "'identity' is ''"),
        (HttpInboundView, {"text": "a..b"}, "'text' is 'a..b'"),
        (HttpInboundView, {"id": 5}, "'id' is 5"),
        (HttpInboundView, {"text": "parts[].text"}, "'text' is 'parts[].text'"),
        (HttpInboundView, {"items": ["results"]}, "'items' is ['results']"),
        (HttpInboundView, {"numbers": "national"}, "'numbers' is 'national'"),
        (HttpReportView, {"id": ""}, "'id' is missing"),
        (HttpReportView, {"status": ""}, "'status' is ''"),
        (HttpReportView, {"outcomes": {}}, "'outcomes' has to be"),
        (HttpReportView, {"outcomes": ["ok"]}, "'outcomes' has to be"),
        (HttpReportView, {"outcomes": {"ok": "deliverd"}}, "'outcomes' has 'deliverd' for 'ok'"),
        (HttpReportView, {"outcomes": {"ok": None}}, "'outcomes' has None for 'ok'"),
    ],
)
def test_a_wrong_argument_is_named_when_the_urls_are_read(view, arguments, words):
    usual = INBOUND if view is HttpInboundView else REPORT
    with pytest.raises(ImproperlyConfigured) as raised:
        view.as_view(**{**usual, **arguments})
    assert words in str(raised.value)


def test_the_arguments_may_be_a_subclasss():
    class Reports(HttpReportView):
        backend_name = "gateway"
        id = "id"
        outcomes = {1: Outcome.DELIVERED}

    row = sent("a")
    assert posted(Reports.as_view(), {"id": "a", "status": 1}) == 200
    row.refresh_from_db()
    assert row.status == "D"


@pytest.mark.parametrize(
    ("numbers", "stored"),
    [("stored", "256772000001"), ("plus", "+256772000001"), ("digits", "256772000001")],
)
def test_a_number_is_stored_as_the_outbound_one(numbers, stored):
    view = HttpInboundView.as_view(**INBOUND, numbers=numbers)
    assert posted(view, {"from": 256772000001, "text": "ping"}) == 200
    assert posted(view, {"from": "40404", "text": "ping"}) == 200
    assert list(Connection.objects.order_by("pk").values_list("identity", flat=True)) == [
        stored,
        "40404",
    ]


@pytest.mark.parametrize(
    ("text", "stored"), [("", ""), (None, ""), (12, "12"), ("a\0b", "a\N{REPLACEMENT CHARACTER}b")]
)
def test_whatever_is_texted_is_a_message(text, stored):
    view = HttpInboundView.as_view(**INBOUND)
    assert posted(view, {"from": "+256772000001", "text": text}) == 200
    assert Message.objects.get().text == stored


@pytest.mark.parametrize(
    "said",
    [
        {"from": "+256772000001"},
        {"from": "", "text": "ping"},
        {"from": "2" * 101, "text": "ping"},
        {"from": ["+256772000001"], "text": "ping"},
        {"from": "+256772000001", "text": {"body": "ping"}},
    ],
)
def test_what_is_no_message_is_refused(said, caplog):
    assert posted(HttpInboundView.as_view(**INBOUND), said) == 400
    assert not Message.objects.exists()
    assert "256772" not in caplog.text
    assert "ping" not in caplog.text


def test_an_item_that_cannot_be_read_does_not_hold_up_the_others(caplog):
    view = HttpInboundView.as_view(**INBOUND, items="results")
    good, bad = {"from": "+256772000001", "text": "ping"}, {"from": "+256772000002"}
    assert posted(view, {"results": [bad, good, "x"]}) == 200
    assert Message.objects.filter(direction="I").count() == 1
    assert "post_refused view=HttpInboundView items=2" in caplog.messages
    assert posted(view, {"results": [bad]}) == 400
    assert posted(view, {"results": []}) == 200
    assert posted(view, {"results": {}}) == 400
    assert (
        """post_refused view=HttpInboundView reason="no list where 'items' says\"""" in caplog.text
    )
    assert posted(view, good) == 400
    assert Message.objects.filter(direction="I").count() == 1


def test_a_post_may_be_a_list():
    view = HttpReportView.as_view(**REPORT, items="[]")
    rows = [sent("a"), sent("b")]
    assert posted(view, [{"id": "a", "status": "ok"}, {"id": "b", "status": "ok"}]) == 200
    assert [Transmission.objects.get(pk=row.pk).status for row in rows] == ["D", "D"]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("teleported", "teleported"),
        ("ERR_12", "ERR_12"),
        ("256772000001", "(not shown)"),
        ("Clinic opens", "(not shown)"),
        ("x" * 500, "(not shown)"),
    ],
)
def test_a_word_that_is_unknown_moves_nothing_and_is_logged(word, shown, caplog):
    row = sent("a")
    assert posted(HttpReportView.as_view(**REPORT), {"id": "a", "status": word}) == 200
    row.refresh_from_db()
    assert row.status == "S"
    assert f"report_of_unknown_status backend=gateway status={shown}" in caplog.messages


def test_reports_of_a_message_that_are_posted_together_move_together(django_assert_max_num_queries):
    rows = broadcast(20)
    several = [{"id": row.external_id, "status": "ok"} for row in rows]
    view = HttpReportView.as_view(items="results", **REPORT)
    with django_assert_max_num_queries(25) as captured:
        assert posted(view, {"results": several}) == 200
    # the test's own transaction has those of the view and of the move as savepoints
    assert sum(each["sql"].startswith("SAVEPOINT") for each in captured.captured_queries) == 2
    assert {row.status for row in again(rows)} == {"D"}


def test_each_report_of_a_post_is_about_its_own_transmission():
    rows, stranger = broadcast(6), sent("of another backend")
    (connection,) = lookup_connections("other", ["+256772000001"])
    Transmission.objects.filter(pk=stranger.pk).update(connection=connection)
    twice = sent(rows[5].external_id)
    view = HttpReportView.as_view(
        items="results",
        reason="why",
        identity="to",
        **{**REPORT, "outcomes": {"ok": "delivered", "no": "failed", "sent": "accepted"}},
    )
    several = [
        {"id": "g0", "status": "sent"},
        {"id": "g0", "status": "ok"},
        {"id": "g1", "status": "no", "why": "absent"},
        {"id": "g2", "status": "no", "why": "barred"},
        {"id": "g2", "status": "ok"},
        {"id": "g3", "status": "ok", "to": "+256779999999"},
        {"id": "g4", "status": "teleported"},
        {"id": "g5", "status": "ok", "to": "0772000005"},
        {"id": "of another backend", "status": "ok"},
        {"id": "not yet known", "status": "ok"},
        {"status": "ok"},
    ]
    assert posted(view, {"results": several}) == 200
    states = [(row.status, row.error) for row in again([*rows, stranger, twice])]
    assert states == [
        ("D", ""),
        ("E", "failed: absent"),
        ("D", ""),
        ("S", ""),
        ("S", ""),
        ("D", ""),
        ("S", ""),
        ("S", ""),
    ]
    kept = set(EarlyReport.objects.values_list("external_id", flat=True))
    assert kept == {"g3", "of another backend", "not yet known"}


def test_a_report_has_a_reason_and_a_date():
    row = sent("a")
    view = HttpReportView.as_view(
        backend_name="gateway",
        id="message.id",
        status="message.status",
        reason="error.name",
        date="doneAt",
        outcomes={"UNDELIVERABLE": "failed"},
    )
    said = {
        "message": {"id": "a", "status": "UNDELIVERABLE"},
        "error": {"name": "EC_ABSENT_SUBSCRIBER"},
        "doneAt": "2009-02-30T10:00:00.000+0000",
    }
    assert posted(view, said) == 200
    row.refresh_from_db()
    assert row.status == "E"
    assert "EC_ABSENT_SUBSCRIBER" in row.error
