"""Whatever a backend returns or raises, reading it names each recipient once and never raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidsms.models import Connection
from rapidsms.router import send

from rapidsms_db_router.db.text import LONGEST_ERROR, UNSTORABLE
from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.outbound import response
from rapidsms_db_router.outbound.causes import Cause
from tests.fuzz.values import ANYTHING, CLASSES, raised

NUMBERS = [f"+25677200000{number}" for number in range(3)]
ROWS = [
    Recipient(id=number, connection_id=number, identity=identity, attempts=1)
    for number, identity in enumerate(NUMBERS)
]
#: What may stand between the digits of a number, and before it.
SEPARATORS = st.sampled_from(["", " ", "-", ".", "/", "(", ")", "\xa0"])
SPELLED = st.builds(
    lambda number, prefix, between: prefix + between.join(number.lstrip("+")),
    st.sampled_from(NUMBERS),
    st.sampled_from(["", "+", "00", " ", "tel:+"]),
    SEPARATORS,
)
NAMES = SPELLED | st.sampled_from([int(number) for number in NUMBERS]) | st.text() | st.integers()
RAISED = raised(NAMES | st.lists(NAMES, max_size=4) | st.integers(400, 599))
SAID = ANYTHING | RAISED | CLASSES
RETURNED = SAID | st.dictionaries(NAMES, SAID, max_size=5)


@given(returned=RETURNED, count=st.integers(1, 3))
def test_what_was_returned_names_each_recipient_once(returned: Any, count: int) -> None:
    read = response.read(ROWS[:count], returned, None)
    assert _named(read) == list(range(count))
    if isinstance(returned, (str, bytes, list, tuple, float)) and count > 1:
        assert not read.sent or returned in ("200", "201", "202")


@given(error=RAISED, count=st.integers(1, 3))
def test_what_was_raised_names_each_recipient_once(error: Exception, count: int) -> None:
    read = response.read(ROWS[:count], None, error)
    assert _named(read) == list(range(count))
    assert read.failed


@given(name=SPELLED, said=st.just("7f3a9c21") | RAISED)
def test_a_number_is_known_however_it_is_spelled(name: str, said: Any) -> None:
    row = next(row for row in ROWS if name.endswith(row.identity[-1]))
    read = response.read(ROWS, {name: said}, None)
    if isinstance(said, str):
        assert read.external_ids == {row.id: said}
    else:
        assert [failure.row for failure in read.failed] == [row]


def _named(read: response.SendResponse) -> list[int]:
    # what every reader of the response asks for
    assert read.retry_after is None or 0 <= read.retry_after <= 86_400
    assert read.outage is None or read.outage.reason
    assert isinstance(read.is_divisible, bool)
    assert isinstance(read.unexpected, str)
    for said in read.external_ids.values():
        assert 0 < len(said) <= 255
        assert not UNSTORABLE.search(said)
    for failure in read.failed:
        assert isinstance(failure.cause, Cause)
        assert isinstance(failure.may_be_recipients, bool)
        assert failure.retry_after is None or 0 <= failure.retry_after <= 86_400
        assert 0 < len(failure.reason) <= LONGEST_ERROR
        assert not UNSTORABLE.search(failure.reason)
    return sorted([row.id for row in read.sent] + [failure.row.id for failure in read.failed])


@pytest.fixture
def answer(installed_backends: dict[str, Any]) -> list[Any]:
    """What the eager backend returns, or raises: the last of this list."""
    answers: list[Any] = []

    def say(_: list[str]) -> Any:
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    engine = "tests.service.backends.AnsweringBackend"
    options = {"ENGINE": engine, "answer": say, "router.db.max_retries": 0}
    installed_backends["phones"] = options
    return answers


@pytest.mark.django_db
@given(said=RETURNED | RAISED)
def test_a_call_ends_whatever_was_said(
    people: Callable[[int], list[Connection]], answer: list[Any], calls: list[Any], said: Any
) -> None:
    answer.append(said)
    calls.clear()
    message = send("news", people(3)).database_message
    message.refresh_from_db()
    assert len(calls) <= 2 * 3  # divided, at most
    letters = set(message.transmissions.values_list("status", flat=True))
    assert letters <= {"S", "E"}
    assert message.status == ("E" if "E" in letters else "S")
    assert not Batch.objects.exists()
    assert Message.objects.filter(recover_at__isnull=False).count() == 0
