"""Values of any kind, as strangers' code may return, raise or pass them."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import requests
from hypothesis import strategies as st
from rapidsms.errors import MessageSendingError

from rapidsms_db_router.errors import OutcomeUnknown, PermanentSendingError, RetryLater


class Unspeakable:
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no string")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __repr__(self) -> str:
        return "Unspeakable()"  # for hypothesis


class UnspeakableError(Exception):
    """An exception that raises whatever it is asked."""

    @property
    def failed_identities(self) -> None:
        """Raise."""
        raise RuntimeError("no names")

    response = status = code = retry_after = headers = failed_identities

    def __str__(self) -> str:
        raise RuntimeError("no string")

    def __repr__(self) -> str:
        return "UnspeakableError()"


class Strange(Exception):
    """An exception with whatever attributes a stranger's class may have."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        super().__init__("no")
        self.__dict__.update(attributes)


class WantsArguments(Exception):
    """Cannot be made of nothing."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


def _response(status: int, headers: dict[str, str]) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.headers.update(headers)
    return made


#: Text with what databases do not like: NUL, halves of surrogate pairs, what is beyond the BMP.
TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["", "\0", "half \ud83d", "\U0001f600", 5000 * "x", "ERR 105", "7f3a9c21", "503"]
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(90, 610)
    | st.floats()
    | TEXT
    | st.binary(max_size=20)
    | st.sampled_from([decimal.Decimal("NaN"), object(), Unspeakable(), *HTTPStatus])
    | st.builds(lambda digits: 10**digits, st.just(5000))
    | st.builds(
        _response,
        st.integers(100, 599),
        st.dictionaries(st.just("Retry-After"), st.sampled_from(["0", "-1", "soon", "60"])),
    )
)
CLASSES = st.sampled_from(
    [
        KeyError,
        MessageSendingError,
        OutcomeUnknown,
        PermanentSendingError,
        RetryLater,
        SystemExit,
        UnicodeDecodeError,
        UnspeakableError,
        WantsArguments,
        requests.ReadTimeout,
    ]
)
KEYS = st.integers() | st.text() | st.booleans() | st.binary()
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(iter)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=8,
)
ATTRIBUTES = st.sampled_from(
    [
        "failed_identities",
        "status",
        "status_code",
        "code",
        "retry_after",
        "headers",
        "response",
        "reason",
    ]
)


def raised(more: st.SearchStrategy[Any]) -> st.SearchStrategy[Exception]:
    """Return exceptions whose attributes are of any kind.

    :param more: values that are more likely to mean something.
    """
    build: Callable[..., Exception] = Strange
    return st.dictionaries(ATTRIBUTES, more | ANYTHING).map(build) | st.sampled_from(
        [UnspeakableError(), RetryLater("busy", -5), ConnectionRefusedError(), KeyError("id")]
    )
