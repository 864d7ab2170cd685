"""The HTTP backend and its views, with the examples of the documentation."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import checks
from rapidsms.router import lookup_connections, send

from rapidsms_db_router import reports
from rapidsms_db_router.models import BackendState, Message, Transmission
from tests.integration.gateways.conftest import ENVIRONMENT

pytestmark = pytest.mark.django_db

NAMES = ("africas_talking", "twilio", "vonage", "infobip")
SECRET = {"secret": ENVIRONMENT["SECRET"]}


def sent_by(worker: Any, *numbers: str, text: str = "Clinic opens at 8.") -> Message:
    with worker.commit():
        message = send(text, lookup_connections("gateway", list(numbers)))
    worker.work()
    return Message.objects.get(pk=message.database_message.pk)


def rows(message: Message) -> list[tuple[str, str | None]]:
    found = message.transmissions.order_by("pk").values_list("status", "external_id")
    return list(found)


# What each gateway is asked, and what follows from its answers


def test_africas_talking_takes_many_numbers_a_call(example, gateway, worker):
    example("africas_talking")
    said = [
        {"statusCode": 101, "number": "+256772000001", "status": "Success", "messageId": "ATXid_1"},
        {"statusCode": 403, "number": "+256772000002", "status": "InvalidPhoneNumber"},
        {"statusCode": 102, "number": "+256772000003", "status": "Queued", "messageId": "ATXid_3"},
    ]
    gateway.answer = lambda request: (
        201,
        {"SMSMessageData": {"Message": "Sent to 2/3", "Recipients": said}},
        {},
    )
    message = sent_by(worker, "+256772000001", "+256772000002", "256772000003")
    (request,) = gateway.requests
    assert request.form["to"] == "+256772000001,+256772000002,+256772000003"
    assert request.form["message"] == "Clinic opens at 8."
    assert request.headers["apikey"] == "the key"
    assert rows(message) == [("S", "ATXid_1"), ("E", None), ("S", "ATXid_3")]
    failed = message.transmissions.get(status="E")
    assert failed.error == "PermanentSendingError: The gateway answered statusCode=403."
    assert failed.next_try is None


def test_twilio_takes_a_form_and_has_the_reason_in_its_status(example, gateway, worker):
    example("twilio")
    gateway.answer = lambda request: (201, {"sid": "SM1", "status": "queued"}, {})
    assert rows(sent_by(worker, "+256772000001")) == [("S", "SM1")]
    request = gateway.requests[-1]
    assert request.path == "/2010-04-01/Accounts/AC1/Messages.json"
    pair = base64.b64encode(b"AC1:the token").decode()
    assert request.headers["authorization"] == f"Basic {pair}"
    assert request.form["To"] == "+256772000001"
    assert request.form["Body"] == "Clinic opens at 8."
    gateway.answer = lambda request: (400, {"code": 21211, "message": "invalid", "status": 400}, {})
    message = sent_by(worker, "+256772000002")
    assert rows(message) == [("E", None)]
    assert message.transmissions.get().next_try is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        # Twilio: From is missing
        ("twilio", (400, {"code": 21603, "status": 400}, {})),
        ("africas_talking", (201, {"SMSMessageData": {"Message": "InvalidSenderId"}}, {})),
        (
            "africas_talking",
            (201, {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}, {}),
        ),
    ],
)
def test_a_mistake_in_the_settings_gives_nobody_up(example, gateway, worker, name, answer):
    example(name)
    gateway.answer = lambda request: answer
    message = sent_by(worker, "+256772000001", "+256772000002")
    assert rows(message) == [("Q", None), ("Q", None)]
    assert set(message.transmissions.values_list("attempts", flat=True)) == {0}


def test_a_gateway_that_asks_for_time_gets_it(example, gateway, worker):
    example("twilio")
    gateway.answer = lambda request: (429, {"code": 20429}, {"Retry-After": "120"})
    assert rows(sent_by(worker, "+256772000001")) == [("Q", None)]
    assert BackendState.objects.get(backend__name="gateway").open_until is not None


def test_vonage_says_so_in_an_answer_of_success(example, gateway, worker):
    example("vonage")

    def answer(request):
        status = {"256772000001": "0", "256772000002": "7", "256772000003": "3"}[request.json["to"]]
        item = {"to": request.json["to"], "status": status, "message-id": "0A" + status}
        return 200, {"message-count": "1", "messages": [item]}, {}

    gateway.answer = answer
    message = sent_by(worker, "+256772000001", "+256772000002", "+256772000003")
    assert rows(message) == [("S", "0A0"), ("E", None), ("E", None)]
    given_up, retried = message.transmissions.filter(status="E").order_by("pk")
    assert (given_up.next_try is None, retried.next_try is None) == (True, False)
    assert gateway.requests[0].json == {
        "api_key": "a1",
        "api_secret": "s1",
        "from": "Clinic",
        "to": "256772000001",
        "text": "Clinic opens at 8.",
        "type": "text",
    }


def test_a_long_text_is_sent_if_each_of_its_parts_is(example, gateway, worker):
    example("vonage")
    parts = {
        "256772000001": [("0", "0A1"), ("0", "0A2")],
        "256772000002": [("0", "0B1"), ("7", "")],
    }
    gateway.answer = lambda request: (
        200,
        {
            "messages": [
                {"status": status, "message-id": id_} for status, id_ in parts[request.json["to"]]
            ]
        },
        {},
    )
    message = sent_by(worker, "+256772000001", "+256772000002", text="Clinic " * 40)
    assert rows(message) == [("S", "0A1 0A2"), ("E", None)]
    (whole, half) = message.transmissions.order_by("pk")
    assert half.next_try is None
    for id_, status in (("0A1", "S"), ("0A2", "D")):
        reports.record("delivered", external_id=id_, backend_name="gateway")
        whole.refresh_from_db()
        assert whole.status == status


def test_vonage_throttles_and_no_try_counts(example, gateway, worker):
    example("vonage")
    gateway.answer = lambda request: (200, {"messages": [{"status": "1"}]}, {})
    message = sent_by(worker, "+256772000001")
    assert rows(message) == [("Q", None)]
    assert message.transmissions.get().attempts == 0


def test_a_text_beyond_the_gsm_alphabet_gets_the_other_coding(example, gateway, worker):
    example("vonage")
    gateway.answer = lambda request: (200, {"messages": [{"status": "0"}]}, {})
    sent_by(worker, "+256772000001", text="مرحبا")
    assert gateway.requests[-1].json["type"] == "unicode"
    assert gateway.requests[-1].json["text"] == "مرحبا"


def test_infobip_has_nested_fields(example, gateway, worker):
    example("infobip")
    item = {"to": "256772000001", "messageId": "22-50", "status": {"groupName": "PENDING"}}
    gateway.answer = lambda request: (200, {"messages": [item]}, {})
    assert rows(sent_by(worker, "+256772000001")) == [("S", "22-50")]
    request = gateway.requests[-1]
    assert request.headers["authorization"] == "App the key"
    assert request.json["messages"][0]["destinations"] == [{"to": "256772000001"}]


# What they post


REPORTS = {
    "africas_talking": {"id": "id-1", "status": "Success", "phoneNumber": "+256772000001"},
    "twilio": {"MessageSid": "id-1", "MessageStatus": "delivered", "To": "+256772000001"},
    "vonage": {"messageId": "id-1", "status": "delivered", "msisdn": "256772000001"},
    "infobip": {
        "results": [
            {"messageId": "id-1", "to": "256772000001", "status": {"groupName": "DELIVERED"}}
        ]
    },
}
TEXTS = {
    "africas_talking": {"from": "+256772000001", "text": "ping", "id": "in-1"},
    "twilio": {"From": "+256772000001", "Body": "ping", "MessageSid": "in-1"},
    "vonage": {"msisdn": "256772000001", "text": "ping", "messageId": "in-1"},
    "infobip": {"results": [{"from": "256772000001", "text": "ping", "messageId": "in-1"}]},
}
FORMS = {"africas_talking", "twilio"}


def post(client: Any, name: str, page: str, said: Any, **secret: str) -> Any:
    query = "?" + "&".join(f"{key}={value}" for key, value in secret.items())
    if name in FORMS:
        return client.post(f"/gateway/{page}/{query}", said)
    body = json.dumps(said)
    return client.post(f"/gateway/{page}/{query}", body, content_type="application/json")


@pytest.mark.parametrize("name", NAMES)
def test_a_report_moves_the_transmission(example, client, name):
    example(name)
    (connection,) = lookup_connections("gateway", ["+256772000001"])
    message = Message.objects.create(direction="O", text="x", status="S")
    row = Transmission.objects.create(
        message=message, connection=connection, status="S", external_id="id-1", attempts=1
    )
    assert post(client, name, "report", REPORTS[name]).status_code == 403
    answer = post(client, name, "report", REPORTS[name], **SECRET)
    assert (answer.status_code, answer.content) == (200, b"")
    row.refresh_from_db()
    assert row.status == "D"


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_stored_once(example, client, name):
    example(name)
    assert post(client, name, "inbound", TEXTS[name]).status_code == 403
    for _ in range(2):
        answer = post(client, name, "inbound", TEXTS[name], **SECRET)
        assert (answer.status_code, answer.content) == (200, b"")
    message = Message.objects.get(direction="I")
    assert (message.text, message.external_id) == ("ping", "in-1")
    # whom a reply goes to
    assert message.transmissions.get().connection.identity == "+256772000001"


@pytest.mark.parametrize(
    "said", [{}, {"status": "delivered"}, {"messageId": "x"}, [], "text", None]
)
def test_a_report_that_says_nothing_is_refused(example, client, said):
    example("vonage")
    assert post(client, "vonage", "report", said, **SECRET).status_code == 400
    assert post(client, "vonage", "inbound", said, **SECRET).status_code == 400


# What the backend does whatever the gateway


@pytest.fixture
def plain(gateway, installed_backends):
    """A backend with a JSON answer that is looked into."""
    options = {
        "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
        "url": f"{gateway.url}/send?fixed=1",
        "json": {"to": "{identity}", "text": "{text}", "ref": "{message_id}", "n": 1},
        "success": {"ok": True},
        "id": "id",
    }
    installed_backends["gateway"] = options
    gateway.answer = lambda request: (200, {"ok": True, "id": 7}, {})
    return options


def test_braces_in_a_text_mean_nothing(plain, gateway, worker):
    text = "{identity} {text.__class__} {0} {message_id} %s"
    message = sent_by(worker, "0772000001", text=text)
    (request,) = gateway.requests
    assert request.path == "/send?fixed=1"
    assert request.json == {"to": "0772000001", "text": text, "ref": str(message.pk), "n": 1}
    assert rows(message) == [("S", "7")]


def test_connections_are_kept(plain, gateway, worker):
    for number in range(5):
        sent_by(worker, f"077200000{number}")
    assert len(gateway.requests) == 5
    assert len(gateway.connections) < 5


@pytest.mark.parametrize(
    ("answer", "letter", "error"),
    [
        ((200, b"<html>", {}), "E", "outcome unknown: OutcomeUnknown: The answer is no JSON."),
        ((200, {}, {}), "E", "outcome unknown: OutcomeUnknown: The answer has no 'ok'."),
        ((200, {"ok": False}, {}), "E", "GatewayRefused: The gateway answered ok=false."),
        (
            (200, {"ok": "not +256772000001"}, {}),
            "E",
            "GatewayRefused: The gateway answered ok=(not shown).",
        ),
        ((404, b"", {}), "E", "HttpError: The gateway answered with HTTP status 404."),
        (
            (302, b"", {"Location": "/"}),
            "E",
            "HttpError: The gateway answered with HTTP status 302.",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_never_sent(plain, gateway, worker, answer, letter, error):
    gateway.answer = lambda request: answer
    message = sent_by(worker, "0772000001")
    row = message.transmissions.get()
    assert (row.status, row.error) == (letter, error)


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield found.getsockname()[1]


def test_a_gateway_that_is_not_there_gives_nobody_up_and_no_secret_away(plain, nobody, worker):
    plain["url"] = f"http://127.0.0.1:{nobody}/send?key=s3cr3t"
    plain["headers"] = {"X-Key": "s3cr3t"}
    message = sent_by(worker, "+256772000001")
    assert rows(message) == [("Q", None)]
    row = message.transmissions.get()
    assert (row.attempts, "Refused" in row.error) == (0, True)
    for secret in ("s3cr3t", "256772000001", "Clinic"):
        assert secret not in row.error


def test_an_identity_that_is_no_number_is_nobody_elses(example, gateway, worker):
    example("africas_talking")

    def answer(request):
        numbers = request.form["to"].split(",")
        items = [{"statusCode": 101, "number": each, "messageId": "x" + each} for each in numbers]
        return 201, {"SMSMessageData": {"Recipients": items}}, {}

    gateway.answer = answer
    message = sent_by(worker, "0772000001,0772000002", "+256772000003")
    assert [request.form["to"] for request in gateway.requests] == ["+256772000003"]
    assert rows(message) == [("E", None), ("S", "x+256772000003")]


def test_a_recipient_that_the_answer_leaves_out_is_unknown(example, gateway, worker):
    example("africas_talking")
    item = {"statusCode": 101, "number": "+256772000001", "messageId": "1"}
    gateway.answer = lambda request: (201, {"SMSMessageData": {"Recipients": [item]}}, {})
    message = sent_by(worker, "+256772000001", "+256772000002")
    assert rows(message) == [("S", "1"), ("E", None)]
    assert message.transmissions.get(status="E").error.startswith("outcome unknown")


# Options


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_right(example, name):
    example(name)
    assert [each for each in checks.run_checks() if each.id == "rapidsms_db_router.E016"] == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"url": "gateway.example.org"}, "'url' has to be a URL"),
        ({"url": "https://me:secret@gateway.example.org/"}, "'url' has to be a URL"),
        ({"method": "SEND"}, "'method' is 'SEND'"),
        ({"method": "GET"}, "'method' is 'GET'"),
        ({"json": None}, "'json' is a NoneType"),
        ({"json": {"to": "{identity}"}}, "does not name {text}"),
        ({"json": {"text": "{text}"}}, "nobody would be sent anything"),
        ({"json": {"to": "{number}", "text": "{text}"}}, "names {number}"),
        ({"form": {"to": "{identity}"}}, "cannot be set together"),
        ({"headers": {"a": "b\nc"}}, "'headers' has to be"),
        ({"headers": {"a b": "c"}}, "'headers' has to be"),
        ({"headers": {"a:": "c"}}, "'headers' has to be"),
        ({"auth": "me:secret"}, "'auth' has to be"),
        ({"numbers": "national"}, "'numbers' is 'national'"),
        ({"separator": "+"}, "'separator' is '+'"),
        ({"codings": "text"}, "'codings' has to be"),
        ({"success": ["ok"]}, "'success' has to be"),
        ({"success": {}}, "'success' has to be"),
        ({"success": {"ok": []}}, "'success' has no value for 'ok'"),
        ({"later": {"ok": [{}]}}, "'later' has a dict for 'ok'"),
        ({"permanent": {"messages[0].ok": "1"}}, "'permanent' has to be"),
        ({"id": "messages..id"}, "'id' is 'messages..id'"),
        ({"recipients": "messages"}, "'number' and 'recipients'"),
        ({"recipients": "a[].b", "number": "to"}, "'recipients' is 'a[].b'"),
        ({"recipients": "a", "number": "to[]"}, "'number' is 'to[]'"),
        ({"json": {"to": "{identities}", "text": "{text}"}}, "'recipients' is missing"),
        ({"sucess": {}}, "'sucess' is no option"),
    ],
)
def test_a_wrong_option_is_named(plain, worker, gateway, changed, words):
    plain |= changed
    (error,) = [each for each in checks.run_checks() if each.id == "rapidsms_db_router.E016"][:1]
    assert words in error.msg
    assert "secret" not in error.msg
    # nothing is lost meanwhile
    assert rows(sent_by(worker, "0772000001")) == [("Q", None)]
    assert gateway.requests == []
