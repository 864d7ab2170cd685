"""Whatever ``receive()`` and ``send()`` are given is stored whole, or clearly refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router.db.text import clean_text
from rapidsms_db_router.models import Batch, Message, Transmission
from tests.fuzz.values import ANYTHING, TEXT, Unspeakable
from tests.service.app import received
from tests.service.backends import calls

pytestmark = pytest.mark.django_db

#: Places in the list of saved connections; the rest is no saved connection.
PLACES = st.integers(0, 2)
NO_CONNECTION = st.sampled_from(
    [
        None,
        "+254700000000",
        7,
        Connection(identity="+1"),
        Backend(name="x"),
        Unspeakable(),
    ]
)
SHAPES = st.sampled_from([list, tuple, iter, lambda given: (each for each in given)])
TEXTS = TEXT | ANYTHING
# RapidSMS's message asks whether they are true
FIELDS = ANYTHING.filter(lambda value: not isinstance(value, Unspeakable)) | st.dictionaries(
    st.sampled_from(["external_id", "smsc", ""]), ANYTHING
)
MOMENTS = st.none() | st.datetimes() | st.datetimes(timezones=st.just(datetime.timezone.utc))
SENT = st.fixed_dictionaries(
    {}, optional={"fields": FIELDS, "not_before": MOMENTS | ANYTHING, "expires_at": MOMENTS}
)


def counts() -> tuple[int, int, int]:
    return Message.objects.count(), Transmission.objects.count(), Batch.objects.count()


def refused(call: Callable[[], Any]) -> Any:
    """Return what a call returns; ``None`` if it raises a clear error, and has stored nothing."""
    # what the example before has left: of thousands it would take gigabytes
    calls.clear()
    received.clear()
    before = counts()
    try:
        return call()
    except (TypeError, ValueError) as exc:
        assert str(exc)
        assert counts() == before
        return None


def assert_stored(message: Message, text: Any, recipients: int) -> None:
    found = Message.objects.get(pk=message.pk)
    if not isinstance(text, (str, bytes, list, tuple)):
        assert found.text
    elif isinstance(text, str):
        assert found.text == clean_text(text)
    assert found.transmissions.count() == recipients
    assert isinstance(found.fields, dict)
    assert len(found.external_id) <= 1024
    assert found.set_status() == found.status


@given(text=TEXTS, place=PLACES, fields=FIELDS)
def test_receive_stores_a_message_or_says_why_not(
    people: Callable[[int], list[Connection]], text: Any, place: int, fields: Any
) -> None:
    message = refused(lambda: receive(text, people(3)[place], fields=fields))
    if message is not None:
        assert_stored(message.dbm, text, 1)
        assert message.dbm.direction == "I"


@given(text=TEXTS, stranger=NO_CONNECTION)
def test_receive_refuses_what_is_no_saved_connection(text: Any, stranger: Any) -> None:
    assert refused(lambda: receive(text, stranger)) is None


@given(text=TEXTS, places=st.lists(PLACES, max_size=5), shape=SHAPES, options=SENT)
def test_send_stores_a_message_or_says_why_not(
    people: Callable[[int], list[Connection]],
    text: Any,
    places: list[int],
    shape: Callable[[list[Connection]], Any],
    options: dict[str, Any],
) -> None:
    everyone = people(3)
    given = shape([everyone[place] for place in places])
    message = refused(lambda: send(text, given, **options))
    if message is not None:
        assert_stored(message.database_message, text, len(set(places)))


@given(text=TEXTS, places=st.lists(PLACES, max_size=3), shape=SHAPES, stranger=NO_CONNECTION)
def test_send_refuses_a_list_with_what_is_no_saved_connection(
    people: Callable[[int], list[Connection]],
    text: Any,
    places: list[int],
    shape: Callable[[list[Any]], Any],
    stranger: Any,
) -> None:
    everyone = people(3)
    given = shape([*(everyone[place] for place in places), stranger])
    assert refused(lambda: send(text, given)) is None
