"""What no database can hold, and what JSON cannot say."""

import datetime
import enum
import json
import uuid
from decimal import Decimal

import pytest
from django.db import models
from django.utils.translation import gettext_lazy
from rapidsms.models import Backend

from rapidsms_db_router.db.text import (
    LONGEST_ERROR,
    MAX_DEPTH,
    clean_json,
    clean_text,
    narrow_text,
    storable,
)


class Colour(str, enum.Enum):
    """An enumeration of strings."""

    RED = "r"


class Size(enum.Enum):
    """An enumeration of its own kind."""

    SMALL = 1


class Choice(models.TextChoices):
    """Django's way to say it."""

    YES = "y", "Yes"


class Rank(enum.IntEnum):
    """An enumeration of integers."""

    FIRST = 1


class Mute:
    """Cannot even be said."""

    def __str__(self):
        raise RuntimeError("no comment")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("half a \udfff pair", "half a \ufffd pair"),
        ("😀", "😀"),
        ("مرحبا", "مرحبا"),
        ("line\r\nand\ttab", "line\r\nand\ttab"),
        (17, "17"),
        (None, "None"),
        (gettext_lazy("Yes"), "Yes"),
        (Colour.RED, "r"),
        (Choice.YES, "y"),
    ],
)
def test_clean_text_replaces_what_no_database_can_hold(text, expected):
    cleaned = clean_text(text)
    assert cleaned == expected
    assert type(cleaned) is str


UNCHANGED = [
    None,
    True,
    False,
    0,
    -5,
    2**63 - 1,
    1.5,
    "text",
    "",
    [],
    {},
    [1, ["two", {"three": None}]],
    {"key": {"key": [True]}},
]


@pytest.mark.parametrize("value", UNCHANGED, ids=repr)
def test_clean_json_leaves_what_json_can_say(value):
    assert clean_json(value) == (value, False)


NOON = datetime.datetime(2026, 1, 2, 12, 30, tzinfo=datetime.timezone.utc)
SAID_BY_DJANGO = [
    (NOON, "2026-01-02T12:30:00Z"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(12, 30), "12:30:00"),
    (datetime.timedelta(days=1, seconds=5), "P1DT00H00M05S"),
    (Decimal("1.10"), "1.10"),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (gettext_lazy("Yes"), "Yes"),
    ((1, 2), [1, 2]),
    (Colour.RED, "r"),
    (Choice.YES, "y"),
    (Rank.FIRST, 1),
]


@pytest.mark.parametrize(("value", "expected"), SAID_BY_DJANGO, ids=repr)
def test_clean_json_says_common_types_as_django_does(value, expected):
    assert clean_json(value) == (expected, False)
    assert clean_json({"key": [value]}) == ({"key": [expected]}, False)


SAID_BY_STR = [
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (2**63, "9223372036854775808"),
    (-(2**70), str(-(2**70))),
    ({"one"}, "{'one'}"),
    (frozenset({1}), "frozenset({1})"),
    (b"bytes", "b'bytes'"),
    (1j, "1j"),
    (Size.SMALL, "Size.SMALL"),
    (Backend(name="phones"), "phones"),
    (datetime.time(12, 30, tzinfo=datetime.timezone.utc), "12:30:00+00:00"),
    (Mute(), "<Mute>"),
    (int, "<class 'int'>"),
    ("a\x00b", "a\ufffdb"),
    ({1: "one"}, {"1": "one"}),
    ({None: 0}, {"None": 0}),
    ({(1, 2): 0}, {"(1, 2)": 0}),
    ({"a\x00": 0}, {"a\ufffd": 0}),
    ({Mute(): 0}, {"<Mute>": 0}),
]


@pytest.mark.parametrize(("value", "expected"), SAID_BY_STR, ids=lambda value: type(value).__name__)
def test_clean_json_says_the_rest_by_its_str_and_tells(value, expected):
    assert clean_json(value) == (expected, True)
    assert clean_json([value]) == ([expected], True)


def test_clean_json_ends_on_a_value_that_contains_itself():
    value = {}
    value["self"] = value
    cleaned, lossy = clean_json(value)
    assert lossy
    assert json.loads(json.dumps(cleaned)) == cleaned


def test_clean_json_keeps_nesting_up_to_a_depth():
    value = "bottom"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert clean_json(value) == (value, False)
    assert clean_json([value])[1]


def test_clean_json_says_a_number_too_long_for_str():
    # Python refuses to print an integer of more than 4300 digits
    cleaned, lossy = clean_json(10**5000)
    assert (cleaned, lossy) == ("<int>", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é ж", "plain é ж"),
        ("😀!", "\ufffd!"),
        ("\uffff", "\uffff"),
        ("\U00010000", "\ufffd"),
    ],
)
def test_narrow_text_replaces_what_three_bytes_cannot_say(text, expected):
    assert narrow_text(text) == expected


def test_what_is_stored_of_an_error_fits_every_column():
    stored = storable("\x00😀" + "x" * 2 * LONGEST_ERROR)
    assert stored.startswith("\ufffd\ufffdxxx")
    assert len(stored) == LONGEST_ERROR
