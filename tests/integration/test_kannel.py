"""What Kannel posts: inbound messages, their repetitions, and delivery reports."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from rapidsms.backends.kannel.models import DeliveryReport

from rapidsms_db_router.models import Message

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
