"""What the HTTP backend reads in an answer: paths, and what follows for each recipient."""

from __future__ import annotations

import json
from email.message import Message as Headers
from typing import Any

import pytest

from rapidsms_db_router.errors import (
    MessageSendingError,
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
)
from rapidsms_db_router.gateways.connections import Answer
from rapidsms_db_router.gateways.http import answers
from rapidsms_db_router.gateways.http.answers import GatewayRefused, HttpError
from rapidsms_db_router.gateways.http.options import written
from rapidsms_db_router.gateways.http.paths import MISSING, find, is_one_of, is_path, items, shown
from rapidsms_db_router.outbound.causes import retry_after

ONE, TWO = "+256772000001", "+256772000002"
PARTS = {
    "success": {"m[].s": ["0"]},
    "permanent": {"m[].s": "7"},
    "later": {"m[].s": "1"},
    "id": "m[].id",
}
EACH = {
    "recipients": "to",
    "number": "n",
    "success": {"s": "ok"},
    "permanent": {"s": "never"},
    "later": {"code": 9},
    "id": "id",
}


def read(said: Any, options: Any, *identities: str, status: int = 200, **headers: str) -> Any:
    """Return by identity an id, or the class of an exception; or that of the call's."""
    found = Headers()
    for name, value in headers.items():
        found[name.replace("_", "-")] = value
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    try:
        said_of = answers.read(Answer(status, found, body), options, list(identities or [ONE]))
    except MessageSendingError as exc:
        assert "256772" not in str(exc)
        return type(exc)
    assert said_of is not None
    return {
        identity: type(said) if isinstance(said, Exception) else said
        for identity, said in said_of.items()
    }


def parts(*said: tuple[str, str]) -> Any:
    return {"m": [{"s": status, "id": id_} for status, id_ in said]}


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        (parts(("0", "a")), {ONE: "a"}),
        (parts(("0", "a"), ("0", "b")), {ONE: ["a", "b"]}),
        (parts(("0", "a"), ("5", "")), GatewayRefused),
        (parts(("0", "a"), ("1", "")), RetryLater),
        (parts(("1", ""), ("7", "")), PermanentSendingError),
        ({"m": [{"s": "0", "id": "a"}, {}]}, OutcomeUnknown),
        ({"m": []}, OutcomeUnknown),
        ({"m": {"s": "0"}}, OutcomeUnknown),
        ([], OutcomeUnknown),
        ({"m": [{"s": {}}]}, GatewayRefused),
        # the gateway says that it took it
        (parts(("0", "")), {ONE: None}),
        ({"m": [{"s": 0, "id": 12.0}]}, {ONE: "12"}),
    ],
)
def test_a_text_of_parts_is_sent_if_each_part_is(said, follows):
    assert read(said, PARTS) == follows


@pytest.mark.parametrize("id_", [None, "", "null", 0, False, [], {}, "undefined"])
def test_where_an_id_is_all_there_is_an_answer_without_it_is_not_sent(id_):
    assert read({"id": id_}, {"id": "id"}) is OutcomeUnknown
    assert read({"id": "a"}, {"id": "id"}) == {ONE: "a"}
    assert read({"ok": 1, "id": id_}, {"id": "id", "success": {"ok": 1}}) == {ONE: None}


@pytest.mark.parametrize(
    ("several", "follows"),
    [
        ([{"n": ONE, "s": "ok", "id": 1}, {"n": TWO, "s": "never"}], ("1", PermanentSendingError)),
        ([{"n": 256772000001, "s": "ok"}, {"n": "00256772000002", "s": "ok"}], (None, None)),
        ([{"n": ONE, "s": "no"}, {"n": ONE, "s": "ok"}], (GatewayRefused, OutcomeUnknown)),
        ([{"n": ONE, "s": "ok"}, {"n": ONE, "s": "no"}], (GatewayRefused, OutcomeUnknown)),
        ([{"n": [ONE], "s": "ok"}, {"s": "ok"}, None, "x"], (OutcomeUnknown, OutcomeUnknown)),
        ([{"n": "", "s": "ok"}, {"n": "MTN", "s": "ok"}], (OutcomeUnknown, OutcomeUnknown)),
    ],
)
def test_each_recipient_has_what_is_said_of_it(several, follows):
    assert read({"to": several}, EACH, ONE, TWO) == dict(zip((ONE, TWO), follows, strict=True))


def test_a_number_with_a_fraction_is_nobody_elses():
    assert read({"to": [{"n": 256772000001.0, "s": "ok"}]}, EACH, ONE) == {ONE: None}
    assert read({"to": [{"n": 256772000001.0, "s": "ok"}]}, EACH, f"{ONE}0") == {
        f"{ONE}0": OutcomeUnknown
    }


def test_two_spellings_of_a_number_have_the_same_answer():
    said = {"to": [{"n": ONE, "s": "ok", "id": "a"}]}
    assert read(said, EACH, ONE, ONE.lstrip("+")) == {ONE: "a", ONE.lstrip("+"): "a"}


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        ({"code": 9}, RetryLater),
        ({"code": 9, "to": []}, RetryLater),
        ({"s": "never"}, PermanentSendingError),
        ({"to": []}, OutcomeUnknown),
        ({"to": {}}, OutcomeUnknown),
        ({"s": "ok"}, OutcomeUnknown),
        (None, OutcomeUnknown),
        # what stands beside the recipients is not about all of them
        ({"s": "never", "to": [{"n": ONE, "s": "ok", "id": "a"}]}, {ONE: "a"}),
    ],
)
def test_what_is_said_in_place_of_the_recipients_is_about_them_all(said, follows):
    assert read(said, EACH, ONE) == follows


def test_a_list_may_be_the_whole_answer():
    options = {**EACH, "recipients": "[]"}
    assert read([{"n": ONE, "s": "ok", "id": "a"}], options, ONE) == {ONE: "a"}
    assert read([{"s": "ok", "id": "a"}], {"success": {"[].s": "ok"}, "id": "[].id"}) == {ONE: "a"}


@pytest.mark.parametrize(
    ("said", "status", "follows"),
    [
        ({"code": 9}, 400, RetryLater),
        ({"s": "never"}, 500, PermanentSendingError),
        ({"s": "ok"}, 400, HttpError),
        (b"<html>", 400, HttpError),
        (b"", 503, HttpError),
        ({"s": "ok", "to": [{"n": ONE, "s": "ok"}]}, 302, HttpError),
    ],
)
def test_a_code_says_more_than_a_status(said, status, follows):
    assert read(said, EACH, ONE, status=status) is follows


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_gateway_says_for_how_long(status):
    headers = Headers()
    headers["retry-after"] = "120"
    for body in (b'{"code": 9}', b""):
        if status == 200 and not body:
            continue
        with pytest.raises(MessageSendingError) as raised:
            answers.read(Answer(status, headers, body), {"later": {"code": 9}}, [ONE])
        assert retry_after(raised.value) == 120


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", [1]),
        ("a.c", [MISSING]),
        ("l.0.x", [1]),
        ("l.9.x", [MISSING]),
        ("l.-1.x", [MISSING]),
        ("l." + "9" * 5000, [MISSING]),
        ("l[].x", [1, MISSING]),
        ("a[].x", [MISSING]),
        ("e[]", [MISSING]),
        ("n[].m[].x", [1, 2, MISSING]),
    ],
)
def test_paths(path, found):
    said = {
        "a": {"b": 1},
        "l": [{"x": 1}, {}],
        "e": [],
        "n": [{"m": [{"x": 1}, {"x": 2}]}, {"m": []}],
    }
    assert is_path(path)
    assert find(said, path) == found


@pytest.mark.parametrize("said", ["", ".", "a..b", "a.", "[].", "a[0]", "a[][]", "[]a", 5, None])
def test_no_paths(said):
    assert not is_path(said)


def test_a_list_is_found_with_and_without_brackets():
    assert items({"a": [1]}, "a") == items({"a": [1]}, "a[]") == items([1], "[]") == [1]
    assert items({"a": {"0": 1}}, "a") is items({}, "a") is items({}, "[]") is None


@pytest.mark.parametrize(
    ("said", "values", "whether"),
    [
        ("0", 0, True),
        (0, ["0"], True),
        (0.0, "0", True),
        (True, True, True),
        ("true", True, True),
        (1, True, False),
        (None, [None], True),
        (None, "None", False),
        ("None", None, False),
        ({}, [""], False),
        ([], {""}, False),
    ],
)
def test_values_are_compared_as_gateways_write_them(said, values, whether):
    assert is_one_of(said, values if isinstance(values, (list, set)) else [values]) is whether


@pytest.mark.parametrize("said", ["403", "InvalidSenderId", "EC_UNKNOWN_ERROR", "-1", "ERR_21"])
def test_a_code_is_shown(said):
    assert shown(said) == said


@pytest.mark.parametrize("said", ["256772000001", ONE, "Clinic opens at 8", "", None, {}, "نعم"])
def test_neither_numbers_nor_texts_are_shown(said):
    assert shown(said) == "(not shown)"


@pytest.mark.parametrize(
    ("number", "plus", "digits"),
    [
        (ONE, ONE, "256772000001"),
        ("256772000001", ONE, "256772000001"),
        ("40404", "40404", "40404"),
        ("MTN", "MTN", "MTN"),
    ],
)
def test_numbers_are_written_as_an_option_says(number, plus, digits):
    assert written(number, "stored") == number
    assert written(number, "plus") == plus
    assert written(number, "digits") == digits
