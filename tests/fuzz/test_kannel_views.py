"""Whatever Kannel's views are asked, they answer; and a report that is not signed moves nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from rapidsms.router import lookup_connections

from rapidsms_db_router.models import Message, Transmission

PHONE = "+256772000001"
#: As a web server passes on a query: Latin-1.
OCTETS = st.binary(max_size=40) | st.text(st.characters(codec="utf-8"), max_size=20).map(
    lambda text: text.encode("utf-8", "replace")
)
VALUES = OCTETS | st.sampled_from(
    [
        PHONE.encode(),
        b"1",
        b"16",
        b"undefined",
        b"idna",
        b"punycode",
        b"utf-16be",
        b"unicode_escape",
        b"9999-12-31 23:59:59",
        b"0001-01-01 00:00:00",
        b"2026-11-24 19:25:08",
        b"1" * 101,
        b"1" * 5000,
        b"NACK/no SMSC",
        b"NaN",
        b"-1",
    ]
)
INBOUND = ["id", "text", "charset", "coding", "message_id"]
REPORT = ["date_sent", "message_id", "identity", "sms_id", "smsc", "status", "status_text"]


def queries(names: list[str]) -> st.SearchStrategy[str]:
    """Return queries: pairs that are well formed, and whatever else."""
    name = st.sampled_from([name.encode() for name in [*names, "signature"]]) | OCTETS
    escaped = st.tuples(name, VALUES).map(
        lambda pair: f"{quote_from_bytes(pair[0])}={quote_from_bytes(pair[1])}".encode()
    )
    all_names = st.tuples(*(VALUES for _ in names)).map(
        lambda values: b"&".join(
            f"{name}={quote_from_bytes(value)}".encode()
            for name, value in zip(names, values, strict=True)
        )
    )
    some = st.lists(escaped | OCTETS, max_size=8).map(b"&".join)
    return (all_names | some).map(lambda query: query.decode("latin-1"))


@pytest.fixture(autouse=True)
def _backend(settings: Any) -> None:
    """A backend that signs, and no app that answers."""
    engine = "rapidsms_db_router.gateways.kannel.KannelBackend"
    settings.INSTALLED_BACKENDS = {"phones": {"ENGINE": engine}}
    settings.RAPIDSMS_HANDLERS = []


@pytest.fixture
def sent(db: None) -> Transmission:
    """A transmission that Kannel has accepted."""
    message = Message.objects.create(pk=1, direction="O", text="text", status="S")
    (person,) = lookup_connections("phones", [PHONE])
    return Transmission.objects.create(message=message, connection=person, status="S", attempts=1)


@given(query=queries(INBOUND))
def test_what_was_texted_is_answered(db: None, query: str) -> None:
    inbound = Message.objects.filter(direction="I")
    inbound.delete()  # else one may be the repetition of an earlier example's
    status = Client().get("/kannel/", QUERY_STRING=query).status_code
    assert status in (200, 400)
    assert inbound.count() == (status == 200)


@given(query=queries(REPORT))
def test_a_report_that_is_not_signed_is_answered_and_moves_nothing(
    sent: Transmission, query: str
) -> None:
    assert Client().get("/kannel/report/", QUERY_STRING=query).status_code in (400, 403)
    sent.refresh_from_db()
    assert sent.status == "S"
