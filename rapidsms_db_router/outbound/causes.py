"""Why a call failed, from what the backend raised: pure functions.

=========== ================================================== ===================================
cause       examples                                           what follows
=========== ================================================== ===================================
not called  connection refused, no such host, TLS handshake    an outage; the try does not count
outage      HTTP 5xx but 502 and 504, 429, ``RetryLater``      an outage; the try does not count,
                                                               unless :func:`may_be_recipients`
account     HTTP 401 402 403 404 405 407 410                   an outage when it meets several
                                                               recipients in a row; else a
                                                               failure that is tried again
unknown     time-out while reading, connection cut, 502, 504,  ``"router.db.after_crash"`` decides;
            an answer that cannot be read                      also an outage; the try counts
unreadable  ``UnreadableResponse``: what ``send()`` returned   the recipient is given up, outcome
            names nobody of the call                           unknown; also an outage
permanent   ``PermanentSendingError``, other HTTP 4xx          the recipient is given up
recipient   any other exception                                the recipient is tried again
=========== ================================================== ===================================
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from rapidsms_db_router.errors import (
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
    UnreadableResponse,
)

#: HTTP's "request timeout" and "too many requests": of the 4xx, those that pass.
PASSING = {408, 429}
#: HTTP statuses that concern our account or URL, or else one recipient.
ACCOUNT = {401, 402, 403, 404, 405, 407, 410}
#: A proxy's words for an answer that was lost after the request had been written.
LOST = {502, 504}
#: What was asked for is wrong: it may be one recipient among many.
BAD_REQUEST = {400, 413, 414, 422}
#: A gateway that asks for time gets no more than this, in seconds.
LONGEST_RETRY_AFTER = 86_400.0
#: Errors of the operating system before anything was written.
UNREACHABLE = {
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
}
#: Exceptions of socket, ssl, urllib3, requests and httpx, by name: none of them has to be there.
NOT_CALLED = {
    "ConnectError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "ConnectionRefusedError",
    "InvalidSchema",
    "InvalidURL",
    "LocationParseError",
    "MissingSchema",
    "NameResolutionError",
    "NewConnectionError",
    "PoolTimeout",
    "SSLCertVerificationError",
    "SSLError",
    "UnsupportedProtocol",
    "gaierror",
}
UNKNOWN = {
    "ChunkedEncodingError",
    "ConnectionError",
    "ContentDecodingError",
    "HTTPException",
    "IncompleteRead",
    "JSONDecodeError",
    "ProtocolError",
    "ReadError",
    "ReadTimeout",
    "ReadTimeoutError",
    "RemoteProtocolError",
    "Timeout",
    "TimeoutError",
    "WriteError",
    "WriteTimeout",
}
#: Those that are only raised once the request may have been written.
WRITTEN = UNKNOWN - {"ConnectionError", "HTTPException", "Timeout", "TimeoutError"}
#: An HTTP status as a string.
STATUS = re.compile("[1-5][0-9][0-9]")
#: Causes of an exception that are looked at.
DEEPEST = 20


class Cause(Enum):
    """Why a call failed."""

    NOT_CALLED = "not called"
    OUTAGE = "outage"
    ACCOUNT = "account"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"
    PERMANENT = "permanent"
    RECIPIENT = "recipient"


#: What our own exceptions say.
OURS = {
    PermanentSendingError: Cause.PERMANENT,
    UnreadableResponse: Cause.UNREADABLE,
    OutcomeUnknown: Cause.UNKNOWN,
    RetryLater: Cause.OUTAGE,
}


def classify(error: BaseException) -> Cause:
    """Return why a call failed, from what it raised."""
    for each in _chain(error, raised_from=True):
        for class_, cause in OURS.items():
            if isinstance(each, class_):
                return cause
    status = http_status(error)
    if status is not None:
        return _classify_status(status)
    names, unreachable = set(), False
    for each in _chain(error):
        names |= {class_.__name__ for class_ in type(each).__mro__}
        unreachable = unreachable or (isinstance(each, OSError) and each.errno in UNREACHABLE)
    if names & WRITTEN:  # before or after another gateway could not be reached
        return Cause.UNKNOWN
    if unreachable or names & NOT_CALLED:
        return Cause.NOT_CALLED
    return Cause.UNKNOWN if names & UNKNOWN else Cause.RECIPIENT


def _classify_status(status: int) -> Cause:
    if status in LOST:
        return Cause.UNKNOWN
    if status >= 500 or status in PASSING:
        return Cause.OUTAGE
    if status in ACCOUNT:
        return Cause.ACCOUNT
    return Cause.PERMANENT if status >= 400 else Cause.RECIPIENT


def _chain(error: BaseException, *, raised_from: bool = False) -> Iterator[BaseException]:
    """Yield an exception and what it stands for, in the ways of requests, urllib3 and httpx."""
    waiting, seen = [error], list[BaseException]()
    while waiting and len(seen) < DEEPEST:
        each = waiting.pop(0)
        if any(each is known for known in seen):
            continue
        seen.append(each)
        yield each
        within = [each.__cause__]
        if not raised_from:
            within += [attribute(each, "reason"), each.__context__, *each.args]
        waiting += [inner for inner in within if isinstance(inner, BaseException)]


def attribute(holder: Any, name: str) -> Any:
    """Return an attribute of an exception of a stranger's class; ``None`` if it has none."""
    try:
        return getattr(holder, name, None)
    except Exception:  # a property
        return None


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception, or its cause, has under one of the usual names."""
    for each in _chain(error, raised_from=True):
        response = attribute(each, "response")
        for holder, name in (
            (response, "status_code"),
            (response, "status"),
            (each, "status"),
            (each, "status_code"),
            (each, "code"),
        ):
            status = status_of(attribute(holder, name))
            if status is not None and status >= 400:
                return status
    return None


def status_of(said: Any) -> int | None:
    """Return the HTTP status that an integer or a string of three digits is, if it is one."""
    if isinstance(said, str) and STATUS.fullmatch(said):
        return int(said)
    if isinstance(said, int) and not isinstance(said, bool) and 100 <= said < 600:
        return int(said)
    return None


def may_be_recipients(error: BaseException) -> bool:
    """Return whether an outage may be about a recipient, if it meets the same one again.

    Gateways say HTTP 500 to numbers that they cannot handle. 429, and 503 without ``Retry-After``,
    speak of the gateway alone; so does a backend by ``RetryLater``.
    """
    if any(isinstance(each, RetryLater) for each in _chain(error, raised_from=True)):
        return False
    status = http_status(error)
    if status is None or status < 500:
        return False
    return status != 503 or retry_after(error) is not None


def retry_after(error: BaseException) -> float | None:
    """Return for how long a gateway wants no calls, in seconds; at most a day.

    It says so in an exception's ``retry_after``, or in HTTP's ``Retry-After`` (RFC 9110, 10.2.3).
    """
    wishes = map(_wish, _chain(error, raised_from=True))
    said = next((wish for wish in wishes if wish is not None), None)
    if said is None:
        return None
    try:
        seconds = float(said)
    except Exception:
        try:
            date = parsedate_to_datetime(str(said))
        except Exception:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else None


def _wish(error: BaseException) -> Any:
    """Return what one exception says of when to come again."""
    said = attribute(error, "retry_after")
    # urllib's exceptions are responses themselves
    for holder in (attribute(error, "response"), error):
        get = attribute(attribute(holder, "headers"), "get")
        with suppress(Exception):  # no headers as HTTP has them
            said = get("Retry-After") if said is None else said
    return said
