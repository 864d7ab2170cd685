"""Whatever a gateway answers or posts, nothing raises, and what does not fit is not sent."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from django.test import Client
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from rapidsms_db_router.errors import MessageSendingError
from rapidsms_db_router.gateways import HttpBackend
from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView

ONE, TWO = "+256772000001", "+256772000002"
STATUSES = ["0", 0, 0.0, "1", "7", "5", None, True, [], {}]
KEYS = st.sampled_from(["status", "id", "to", "text", "messages", "0"]) | st.text(max_size=5)
LEAVES = (
    st.sampled_from([*STATUSES, ONE, TWO, 256772000001])
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
#: What fits the options, or nearly does.
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(STATUSES),
        "to": st.sampled_from([ONE, TWO, 256772000002.0, "00256772000001", "MTN", None]),
        "id": st.sampled_from(["a", "", None, 7, {}]),
    },
)
FITTING = st.fixed_dictionaries({"messages": st.lists(ITEM | JSON, max_size=4)})
BODIES = (FITTING | JSON).map(lambda said: json.dumps(said).encode()) | st.binary(max_size=50)

ONE_A_CALL = {"json": {"to": "{identity}", "text": "{text}"}, "success": {"messages[].status": "0"}}
TOGETHER = {
    "json": {"to": "{identities}", "text": "{text}"},
    "recipients": "messages",
    "number": "to",
    "success": {"status": "0"},
}
MORE = {"permanent": "7", "later": "1"}


class Raw(socketserver.ThreadingTCPServer):
    """Answers each request with some bytes, whether they are HTTP or not."""

    daemon_threads = True
    allow_reuse_address = True
    answer = b""


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = 0
        while (line := self.rfile.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.rfile.read(length)
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def server() -> Iterator[Raw]:
    with Raw(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def backend(server: Raw, options: dict[str, Any]) -> HttpBackend:
    prefix = "" if "recipients" in options else "messages[]."
    for name, value in MORE.items():
        options = {**options, name: {f"{prefix}status": value}}
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    return HttpBackend(None, "gateway", **{"url": url, "id": f"{prefix}id", **options})


def http(body: bytes, status: int) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def sent(backend: HttpBackend, *identities: str) -> set[str]:
    """Return who was sent a message; whatever else is said is an error that the router reads."""
    try:
        said = backend.send(1, "a text", list(identities), {})
    except (MessageSendingError, OSError, HTTPException) as exc:
        assert "256772" not in str(exc)
        assert "a text" not in str(exc)
        return set()
    assert said is not None
    assert set(said) == set(identities)
    assert all(not isinstance(each, Exception | dict) or str(each) for each in said.values())
    return {name for name, each in said.items() if not isinstance(each, Exception)}


def accepted(said: Any) -> bool:
    return said == "0" or (said == 0 and isinstance(said, (int, float)) and said is not False)


def said_in(body: bytes) -> Any:
    """Return the items of an answer, if it has any."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return []
    items = said.get("messages") if isinstance(said, dict) else None
    return items if isinstance(items, list) else []


@given(body=BODIES, status=st.sampled_from([200, 201, 204, 302, 400, 429, 503]))
def test_a_call_to_one_is_sent_if_each_part_is_accepted(
    server: Raw, body: bytes, status: int
) -> None:
    server.answer = http(body, status)
    found = said_in(body)
    is_accepted = bool(found) and all(
        isinstance(each, dict) and accepted(each.get("status")) for each in found
    )
    fits = 200 <= status < 300 and status != 204 and is_accepted
    assert sent(backend(server, ONE_A_CALL), ONE) == ({ONE} if fits else set())


@given(body=BODIES)
def test_a_call_to_several_is_sent_to_those_that_are_accepted(server: Raw, body: bytes) -> None:
    server.answer = http(body, 200)
    of: dict[str, list[bool]] = {ONE: [], TWO: []}
    for each in said_in(body):
        number = each.get("to") if isinstance(each, dict) else None
        if isinstance(number, str | int | float) and not isinstance(number, bool):
            digits = str(int(number)) if isinstance(number, float) and number == number else number
            digits = str(digits).lstrip("+0")
            for identity, found in of.items():
                if digits == identity.lstrip("+"):
                    found.append(accepted(each.get("status")))
    fits = {identity for identity, found in of.items() if found and all(found)}
    assert sent(backend(server, TOGETHER), ONE, TWO) == fits


@given(answer=st.binary(max_size=200) | st.binary(max_size=30).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_bytes_that_are_no_answer_are_never_taken_for_one(server: Raw, answer: bytes) -> None:
    server.answer = answer
    assert sent(backend(server, ONE_A_CALL), ONE) == set()


# What gateways post


NAMES = {"backend_name": "phones", "id": "id", "identity": "to"}
OUTCOMES = {"0": "delivered", "7": "failed", "text": "accepted"}
VIEWS = [
    path("report/", HttpReportView.as_view(outcomes=OUTCOMES, date="text", reason="text", **NAMES)),
    path("inbound/", HttpInboundView.as_view(numbers="plus", **NAMES)),
    path("reports/", HttpReportView.as_view(outcomes=OUTCOMES, items="messages", **NAMES)),
    path("inbounds/", HttpInboundView.as_view(items="messages", secret="known", **NAMES)),
]
TYPES = st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "a/b+json", ""]
) | st.sampled_from(["multipart/form-data; boundary=x", "multipart/form-data"])
#: With "undefined" or "idna" Django cannot even make the request, so that no view is called.
CHARSETS = st.sampled_from(["", "utf-8", "latin-1", "utf-16", "utf-7", "none"]).map(
    lambda name: f"; charset={name}" if name else ""
)
PAIRS = st.dictionaries(KEYS, st.binary(max_size=120) | LEAVES.map(lambda said: str(said).encode()))
FORMS = PAIRS.map(
    lambda pairs: "&".join(
        f"{quote_from_bytes(key.encode('utf-8', 'replace'))}={quote_from_bytes(value)}"
        for key, value in pairs.items()
    )
)


@pytest.mark.django_db
@pytest.mark.urls(tuple(VIEWS))
@given(
    page=st.sampled_from(["report", "inbound", "reports", "inbounds"]),
    method=st.sampled_from(["GET", "POST", "POST", "POST"]),
    query=FORMS,
    body=BODIES | FORMS.map(str.encode),
    type_=TYPES,
    charset=CHARSETS,
)
def test_a_post_is_taken_or_refused(
    page: str, method: str, query: str, body: bytes, type_: str, charset: str
) -> None:
    client = Client(raise_request_exception=False)
    answer = client.generic(
        method, f"/{page}/?{query}", body, content_type=f"{type_}{charset}", secure=True
    )
    assert answer.status_code in (200, 400, 403)
