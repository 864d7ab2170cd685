"""Finding by its date where rows begin."""

from __future__ import annotations

import datetime
import math
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message
from rapidsms_db_router.operations.bisecting import key_since

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


def store(*keys: int) -> datetime.datetime:
    """Store messages with these primary keys, an hour apart; return the date of the first."""
    first = now() - 100 * HOUR
    for number, key in enumerate(keys):
        Message.objects.create(pk=key, direction="I", text="a text", date=first + number * HOUR)
    return first


@pytest.mark.parametrize(
    "keys",
    [range(1, 10), (1, 2, 50, 51, 4000, 4001, 4002, 9000, 9001), (2**40, 2**40 + 1, 2**40 + 7)],
    ids=["without gaps", "gaps", "large"],
)
def test_the_key_divides_older_rows_from_the_others(keys: range | tuple[int, ...]) -> None:
    first = store(*keys)
    for number in range(len(keys) + 1):
        key = key_since(first + number * HOUR, Message)
        older = Message.objects.filter(pk__lt=key)
        assert list(older.order_by("pk").values_list("pk", flat=True)) == list(keys[:number])


def test_a_row_of_just_that_moment_is_not_older() -> None:
    first = store(5)
    assert key_since(first, Message) <= 5
    assert key_since(first + datetime.timedelta(microseconds=1), Message) > 5


def test_no_row_is_older_where_there_is_none() -> None:
    assert key_since(now(), Message) == 0


def test_the_range_of_keys_is_halved_by_each_query() -> None:
    first = store(*range(1, 100))
    with CaptureQueriesContext(connection) as queries:
        key_since(first + 7 * HOUR, Message)
    assert len(queries) <= 2 + math.log2(100)


def test_a_query_names_the_keys_that_it_reads() -> None:
    # of keys that it first has to look for, MariaDB reads a whole table
    first = store(*range(1, 100))
    with CaptureQueriesContext(connection) as queries:
        key_since(first + 7 * HOUR, Message)
    _ends, *looks = [each["sql"] for each in queries.captured_queries]
    assert looks and all(len(re.findall(r"id[`\"] (?:>=|<) \d+", sql)) == 2 for sql in looks)
