"""What a backend returned or raised, per recipient: pure functions.

=========== ================================================== ===================================
cause       examples                                           what follows
=========== ================================================== ===================================
not called  connection refused, no such host, TLS handshake    an outage; the try does not count
outage      HTTP 5xx but 502 and 504, 429, ``RetryLater``      an outage; the try does not count
account     HTTP 401 402 403 404 405 407 410                   an outage when it meets several
                                                               recipients in a row; else a
                                                               failure that is tried again
unknown     time-out while reading, connection cut, 502, 504,  ``"router.db.after_crash"`` decides;
            an answer that cannot be read                      also an outage; the try counts
permanent   ``PermanentSendingError``, other HTTP 4xx          the recipient is given up
recipient   any other exception                                the recipient is tried again
=========== ================================================== ===================================

An exception that names recipients in ``failed_identities`` speaks of those alone: the others were
sent the message.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, NamedTuple

from rapidsms.errors import MessageSendingError

from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.errors import OutcomeUnknown, PermanentSendingError, RetryLater
from rapidsms_db_router.limits.circuit import Outage
from rapidsms_db_router.models.transmission import LONGEST_EXTERNAL_ID

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
#: Causes of an exception that are looked at.
DEEPEST = 20


class Cause(Enum):
    """Why a call failed."""

    NOT_CALLED = "not called"
    OUTAGE = "outage"
    ACCOUNT = "account"
    UNKNOWN = "unknown"
    PERMANENT = "permanent"
    RECIPIENT = "recipient"


#: What our own exceptions say.
OURS = {
    PermanentSendingError: Cause.PERMANENT,
    OutcomeUnknown: Cause.UNKNOWN,
    RetryLater: Cause.OUTAGE,
}


class Failure(NamedTuple):
    """Why one recipient did not get the message."""

    row: Recipient
    error: Exception
    cause: Cause

    @property
    def is_permanent(self) -> bool:
        """Whether no other try can succeed."""
        return self.cause is Cause.PERMANENT


@dataclass
class SendResponse:
    """What became of each recipient of one call."""

    #: Those that the gateway took.
    sent: list[Recipient] = field(default_factory=list)
    #: The gateway's own ids of them, by the transmission's primary key.
    external_ids: dict[int, str] = field(default_factory=dict)
    #: Those that it did not take, or of which that is not known.
    failed: list[Failure] = field(default_factory=list)
    #: Whether the call failed as a whole: no recipient was named.
    is_whole: bool = False

    @property
    def cause(self) -> Cause | None:
        """Why the call failed as a whole, if it did."""
        return self.failed[0].cause if self.is_whole and self.failed else None

    @property
    def outage(self) -> Outage | None:
        """The outage that the call has met, if the gateway is at fault, or our account."""
        if self.cause in (None, Cause.PERMANENT, Cause.RECIPIENT):
            return None
        failure = self.failed[0]
        suspect = None
        if failure.cause is Cause.ACCOUNT and len(self.failed) == 1:
            suspect = failure.row.id
        return Outage(summary(failure.error), self.retry_after, suspect)

    @property
    def is_divisible(self) -> bool:
        """Whether one recipient among several may be the reason of the failure."""
        return (
            self.is_whole
            and len(self.failed) > 1
            and http_status(self.failed[0].error) in BAD_REQUEST
        )

    @property
    def retry_after(self) -> float | None:
        """For how long the gateway wants no calls, in seconds."""
        wishes = (retry_after(failure.error) for failure in self.failed)
        return max((wish for wish in wishes if wish is not None), default=None)


def read(rows: list[Recipient], returned: Any, raised: Exception | None) -> SendResponse:
    """Return what a backend's response says; never raises.

    RapidSMS's rule (``BackendBase.send``): a recipient that is not named in an exception's
    ``failed_identities`` was sent the message, if the exception names any. Beyond that a backend
    may return a mapping by identity: the gateway's id of what it took, or the exception why it did
    not.

    :param rows: to whom the message was sent.
    :param returned: what ``send()`` returned.
    :param raised: what it raised.
    """
    if raised is not None:
        return _read_raised(rows, raised)
    response = SendResponse()
    said_of = returned if isinstance(returned, Mapping) else {}
    for row in rows:
        said = _get(said_of, row.identity)
        if isinstance(said, Exception):
            response.failed.append(Failure(row, said, classify(said)))
            continue
        response.sent.append(row)
        external_id = _external_id(said)
        if external_id:
            response.external_ids[row.id] = external_id
    return response


def _read_raised(rows: list[Recipient], raised: Exception) -> SendResponse:
    # what the router raised it from tells more; an exception of a class of ours tells all
    wrapped = type(raised) is MessageSendingError and isinstance(raised.__cause__, Exception)
    error: Exception = raised.__cause__ if wrapped else raised  # type: ignore[assignment]
    cause = classify(error)
    # names that are nobody's of this call tell of no success
    named = _identities(raised) & {row.identity for row in rows}
    response = SendResponse(is_whole=not named)
    for row in rows:
        if named and row.identity not in named:
            response.sent.append(row)
        else:
            response.failed.append(Failure(row, error, cause))
    return response


def _identities(raised: Exception) -> set[str]:
    """Return the recipients that an exception names, however it names them."""
    named = _attribute(raised, "failed_identities")
    if named is None:
        return set()
    if isinstance(named, str) or not isinstance(named, Iterable):
        named = [named]
    found: set[str] = set()
    with suppress(Exception):
        found.update(str(each) for each in named)
    return found


def _get(said_of: Mapping[Any, Any], identity: str) -> Any:
    try:
        return said_of.get(identity)
    except Exception:
        return None


def _external_id(said: Any) -> str:
    """Return a gateway's id as the column can hold it."""
    if said is None or isinstance(said, bool):
        return ""
    try:
        return narrow_text(clean_text(said))[:LONGEST_EXTERNAL_ID]
    except Exception:  # the backend's own class
        return ""


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
            within += [_attribute(each, "reason"), each.__context__, *each.args]
        waiting += [inner for inner in within if isinstance(inner, BaseException)]


def _attribute(holder: Any, name: str) -> Any:
    """Return an attribute of an exception of a stranger's class; ``None`` if it has none."""
    try:
        return getattr(holder, name, None)
    except Exception:  # a property
        return None


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception, or its cause, has under one of the usual names."""
    for each in _chain(error, raised_from=True):
        said = [_attribute(_attribute(each, "response"), "status_code")]
        said += [_attribute(each, name) for name in ("status", "status_code", "code")]
        for status in said:
            if isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600:
                return int(status)
    return None


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
    said = _attribute(error, "retry_after")
    # urllib's exceptions are responses themselves
    for holder in (_attribute(error, "response"), error):
        get = _attribute(_attribute(holder, "headers"), "get")
        with suppress(Exception):  # no headers as HTTP has them
            said = get("Retry-After") if said is None else said
    return said


def summary(error: BaseException) -> str:
    """Return an exception's class and HTTP status: nothing that a gateway or an app has said."""
    status = http_status(error)
    return type(error).__name__ if status is None else f"{type(error).__name__}: HTTP {status}"
