"""What Kannel posts: inbound messages, their repetitions, and delivery reports."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from rapidsms.backends.kannel.models import DeliveryReport
from rapidsms.router import lookup_connections

from rapidsms_db_router.gateways.kannel.signing import signature
from rapidsms_db_router.gateways.kannel.views import DeliveryReportView
from rapidsms_db_router.models import Message, Transmission

pytestmark = pytest.mark.django_db

PHONE = "+256772000001"
ID = "22d411ab-15be-4bcf-a7dc-eeaa3a82cd5d"
#: As Kannel 1.4.5 fills in what RapidSMS's backend asks for.
REPORT = {
    "message_id": "77",
    "status": "1",
    "status_text": "",
    "smsc": "fake",
    "sms_id": "1c28dc25-7f1f-4fcb-a4eb-fe37e3f96f46",
    "date_sent": "2026-11-24 19:25:08",
    "identity": PHONE,
}


def text_in(client, text, **more):
    return client.get("/kannel/", {"id": PHONE, "text": text, **more})


def test_a_message_is_stored_and_answered(client, calls):
    response = text_in(client, "ping 1", charset="UTF-8", coding="0", message_id=ID)
    assert (response.status_code, response.content) == (200, b""), "Kannel would text an answer"
    assert [(call.text, call.identities) for call in calls] == [("pong 1", [PHONE])]
    message = Message.objects.get(direction="I")
    assert (message.text, message.status, message.external_id) == ("ping 1", "R", ID)


def test_a_repetition_is_told_from_a_new_message(client, calls):
    for given in (ID, ID, "another"):
        assert text_in(client, "ping 1", message_id=given).status_code == 200
    inbound = Message.objects.filter(direction="I").order_by("pk")
    assert [message.external_id for message in inbound] == [ID, "another"]
    assert len(calls) == 2


def test_without_an_id_nothing_is_a_repetition(client, calls):
    for _ in range(2):
        assert text_in(client, "ping 1").status_code == 200
    assert len(calls) == 2


@pytest.mark.parametrize("charset", ["UTF-16BE", "ISO-8859-1", "UTF-8", "", "x-unheard-of"])
def test_a_text_is_read_in_its_charset(client, charset):
    text = "Größe + &=%" if charset == "ISO-8859-1" else "caf\xe9 ж + &=% \U0001f600"
    known = charset if charset != "x-unheard-of" else ""
    query = f"id=%2B1&text={quote_plus(text.encode(known or 'utf-8'))}&charset={charset}"
    assert client.get(f"/kannel/?{query}").status_code == 200
    assert Message.objects.get().text == text


@pytest.mark.parametrize(("text", "stored"), [("", ""), (" x ", " x "), ("a\0b", "a\ufffdb")])
def test_whatever_was_texted_is_a_message(client, text, stored):
    assert text_in(client, text).status_code == 200
    assert Message.objects.get().text == stored


@pytest.mark.parametrize(
    "charset",
    [
        *("undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
        *("hex", "utf-7", "8-BIT", "x" * 9999),
    ],
)
def test_a_charset_that_is_none_loses_no_text(client, charset):
    text = "caf\xe9 \\ \U0001f600"
    assert text_in(client, text, charset=charset).status_code == 200
    assert Message.objects.get().text.startswith("caf")
    if charset != "utf-7":
        assert Message.objects.get().text == text


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "1" * 101},
        {"id": "a\0b"},
        {"id": " "},
        {"message_id": "x" * 1025},
        {"message_id": "\0"},
        {"charset": "a\0b"},
    ],
)
def test_what_no_column_holds_is_refused_and_not_logged(client, caplog, changed):
    assert text_in(client, "secret", **changed).status_code == 400
    assert not Message.objects.exists()
    assert next(iter(changed)) in caplog.text
    assert "secret" not in caplog.text
    assert PHONE not in caplog.text


def test_an_id_of_100_characters_is_one(client):
    assert text_in(client, "ping 1", id="1" * 100).status_code == 200
    assert Message.objects.filter(direction="I").exists()


@pytest.mark.parametrize("query", [{"text": "ping 1"}, {"id": PHONE}])
def test_a_get_url_that_says_too_little_is_refused(client, query):
    assert client.get("/kannel/", query).status_code == 400
    assert not Message.objects.exists()


@pytest.mark.parametrize("text", ["", "ACK/"])
def test_a_report_is_stored_with_and_without_words(client, text):
    response = client.get("/kannel/report/", {**REPORT, "status_text": text})
    assert (response.status_code, response.content) == (200, b"")
    report = DeliveryReport.objects.get()
    assert (report.message_id, report.identity, report.status) == ("77", PHONE, 1)
    assert report.status_text == text


def test_a_report_that_is_none_is_refused(client):
    assert client.get("/kannel/report/", {**REPORT, "status": "3"}).status_code == 400
    assert not DeliveryReport.objects.exists()


@pytest.mark.parametrize("name", ["status_text", "smsc"])
def test_a_message_centre_may_say_whatever_it_likes(client, name):
    words = "a\0b\U0001f600" + "x" * 1000
    assert client.get("/kannel/report/", {**REPORT, name: words}).status_code == 200
    assert getattr(DeliveryReport.objects.get(), name) == "a\ufffdb\ufffd" + "x" * 251


@pytest.mark.parametrize("changed", [{"identity": "1" * 101}, {"identity": "\0"}, {"sms_id": ""}])
def test_a_report_that_no_column_holds_is_refused_and_not_logged(client, caplog, changed):
    assert client.get("/kannel/report/", {**REPORT, **changed}).status_code == 400
    assert not DeliveryReport.objects.exists()
    assert next(iter(changed)) in caplog.text
    assert REPORT["sms_id"] not in caplog.text
    assert PHONE not in caplog.text


@pytest.mark.parametrize("date", ["9999-12-31 23:59:59", "0002-01-01 00:00:00", "2999-01-01"])
def test_a_date_that_is_not_the_message_centres_is_now(client, settings, date):
    settings.TIME_ZONE = "Pacific/Auckland"
    assert client.get("/kannel/report/", {**REPORT, "date_sent": date}).status_code == 200
    report = DeliveryReport.objects.get()
    assert abs((report.date - report.date_sent).total_seconds()) < 60


@pytest.fixture
def sent(installed_backends):
    """A transmission that Kannel has accepted, through a backend that signs."""
    installed_backends["phones"] = {"ENGINE": "rapidsms_db_router.gateways.kannel.KannelBackend"}
    message = Message.objects.create(direction="O", text="text", status="S")
    (person,) = lookup_connections("phones", [PHONE])
    return Transmission.objects.create(message=message, connection=person, status="S", attempts=1)


def report_of(sent, client, **changed):
    named = {"message_id": str(sent.message_id), "signature": signature(sent.message_id, PHONE)}
    response = client.get("/kannel/report/", {**REPORT, **named, **changed})
    sent.refresh_from_db()
    return response.status_code


def test_a_signed_report_is_followed(sent, client):
    assert report_of(sent, client) == 200
    assert sent.status == "D"


def test_a_report_that_was_signed_with_an_earlier_key_is_followed(sent, client, settings):
    with_old_key = signature(sent.message_id, PHONE)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"
    assert report_of(sent, client, signature=with_old_key) == 200
    assert sent.status == "D"


@pytest.mark.parametrize(
    "changed",
    [
        {"signature": ""},
        {"signature": "nonsense"},
        {"signature": "\U0001f600:\0"},
        {"message_id": "1000"},
        {"identity": "+256772000002"},
        {"identity": "256772000001"},
    ],
)
def test_a_report_without_its_signature_moves_nothing(sent, client, caplog, changed):
    assert report_of(sent, client, **changed) == 403
    assert sent.status == "S"
    assert not DeliveryReport.objects.exists()
    assert "report_not_signed" in caplog.text
    assert PHONE not in caplog.text


@pytest.mark.parametrize(("signed", "status"), [(None, 200), (True, 403), (False, 200)])
def test_a_view_may_be_told_whether_reports_are_signed(
    client, installed_backends, rf, signed, status
):
    """By default they are, where a backend is ours."""
    view = DeliveryReportView.as_view(signed=signed)
    assert view(rf.get("/kannel/report/", REPORT)).status_code == status


@pytest.mark.parametrize(("before", "after"), [("P", "P"), ("Q", "Q"), ("S", "E")])
def test_no_route_is_the_calls_answer_while_there_is_a_call(sent, client, before, after):
    """Kannel says so twice: as the answer, and by a report, which would give the recipient up."""
    Transmission.objects.update(status=before)
    assert report_of(sent, client, status="16", status_text="NACK/no SMSC") == 200
    assert sent.status == after


@pytest.mark.parametrize("before", ["P", "S"])
def test_a_message_that_was_rejected_is_errored(sent, client, before):
    Transmission.objects.update(status=before)
    assert report_of(sent, client, status="16", status_text="NACK/0x0000000b/Invalid") == 200
    assert sent.status == "E"
    assert "Invalid" in sent.error
