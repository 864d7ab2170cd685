"""Whatever a gateway answers or posts, nothing raises, and what does not fit is not sent."""

from __future__ import annotations

import json
from email.message import Message as Headers
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from rapidsms_db_router.errors import MessageSendingError
from rapidsms_db_router.gateways.connections import Answer
from rapidsms_db_router.gateways.http import answers
from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView
from tests.fuzz.values import ANYTHING

KEYS = st.sampled_from(["status", "id", "to", "messages", "0"]) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=50) | JSON.map(lambda said: json.dumps(said).encode())
OPTIONS = st.sampled_from(
    [
        {"success": {"status": "0"}, "id": "id"},
        {"success": {"status": "0"}, "recipients": "messages", "number": "to", "id": "id"},
    ]
)
IDENTITIES = ["+256772000001", "+256772000002"]


@given(body=BODIES, status=st.integers(100, 599), options=OPTIONS)
def test_an_answer_is_read_or_says_whose_fault_it_is(
    body: bytes, status: int, options: dict[str, Any]
) -> None:
    try:
        said = answers.read(Answer(status, Headers(), body), options, IDENTITIES)
    except MessageSendingError as exc:
        assert "256772" not in str(exc)
        return
    assert 200 <= status < 300
    assert said is not None
    assert list(said) == IDENTITIES or set(said) == set(IDENTITIES)
    if any(not isinstance(each, MessageSendingError) for each in said.values()):
        assert b'"0"' in body or b"0" in body


@pytest.mark.django_db
@given(said=JSON | ANYTHING, items=st.sampled_from(["", "messages"]))
def test_a_post_is_taken_or_refused(said: Any, items: str) -> None:
    names = {"identity": "to", "id": "id", "items": items, "backend_name": "phones"}
    report = HttpReportView.as_view(outcomes={"0": "delivered"}, **names)
    inbound = HttpInboundView.as_view(text="status", **names)
    try:
        body = json.dumps(said).encode()
    except (TypeError, ValueError):
        body = b'{"status": ' + b"9" * 5000
    for view in (report, inbound):
        request = RequestFactory().post("/", body, content_type="application/json")
        assert view(request).status_code in (200, 400)
