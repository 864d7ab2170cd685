"""Whatever a backend returns or raises, reading it names each recipient once and never raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.outbound import response

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
ROWS = [
    Recipient(id=number, connection_id=number, identity=f"+25677200000{number}", attempts=1)
    for number in range(3)
]


class Strange(Exception):
    """An exception with whatever attributes a stranger's class may have."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        super().__init__("no")
        self.__dict__.update(attributes)


ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["failed_identities", "status", "status_code", "code", "retry_after", "headers", "response"]
    ),
    ANYTHING,
)
IDENTITIES = st.sampled_from([row.identity for row in ROWS]) | st.text() | st.integers()
RAISED = ATTRIBUTES.map(Strange)
RETURNED = ANYTHING | st.dictionaries(IDENTITIES, ANYTHING | RAISED)


@given(returned=RETURNED)
def test_what_was_returned_names_each_recipient_once(returned: Any) -> None:
    assert _named(response.read(ROWS, returned, None)) == [row.id for row in ROWS]


@given(raised=RAISED)
def test_what_was_raised_names_each_recipient_once(raised: Exception) -> None:
    assert _named(response.read(ROWS, None, raised)) == [row.id for row in ROWS]


def _named(read: response.SendResponse) -> list[int]:
    # what every reader of the response asks for
    assert read.retry_after is None or read.retry_after >= 0
    assert read.outage is None or read.outage.reason
    assert isinstance(read.is_divisible, bool)
    assert all(isinstance(said, str) for said in read.external_ids.values())
    return sorted([row.id for row in read.sent] + [failure.row.id for failure in read.failed])
