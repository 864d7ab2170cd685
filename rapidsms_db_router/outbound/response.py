"""What a backend returned or raised, per recipient: pure functions.

What it raised has a cause; see :mod:`~rapidsms_db_router.outbound.causes`. An exception that names
recipients in ``failed_identities`` speaks of those alone: the others were sent the message. What it
returned:

============================================== ==================================================
returned                                       what became of the recipients
============================================== ==================================================
``None``, ``True``, an empty mapping           sent
a mapping that names some of them              as it says: an id, a list of the ids of parts, an
                                               exception, ``False``; those that it does not name
                                               were sent the message
an id, or a list of ids, of a call to one      sent
``False``                                      tried again
an exception, or a class of exceptions;        as if it had been raised
an HTTP response or status of 400 or more
a coroutine, a generator                       given up: ``send()`` has not run
any other mapping, text, number or collection  given up: the outcome is unknown
any other object                               sent
============================================== ==================================================

A name that fits nobody may be a recipient's in a notation that is not understood. So the outcome of
the recipients that are not named is unknown where a failure is said of such a name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from numbers import Number
from typing import Any
from uuid import UUID

from rapidsms.errors import MessageSendingError

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.errors import OutcomeUnknown, PermanentSendingError, UnreadableResponse
from rapidsms_db_router.identities import spelled
from rapidsms_db_router.limits.circuit import Outage
from rapidsms_db_router.models.transmission import LONGEST_EXTERNAL_ID
from rapidsms_db_router.outbound.causes import (
    BAD_REQUEST,
    Cause,
    attribute,
    classify,
    status_of,
)
from rapidsms_db_router.outbound.failure import Failure, examine
from rapidsms_db_router.outbound.ids import external_ids_of, parts_of
from rapidsms_db_router.outbound.naming import Names

#: Causes that concern the gateway, the way to it, or our account.
LINE = (Cause.NOT_CALLED, Cause.OUTAGE, Cause.ACCOUNT, Cause.UNKNOWN)
NOBODY = "names no recipient of the call"
#: A gateway's id, where nothing but its looks tells it from an error: it has eight characters or
#: more, a digit among them, no white space, and does not begin with a word such as "error".
ID = re.compile(r"(?!(?:err|error|fail|failed|failure|invalid)[^a-z])(?=\D*[0-9])\S{8,255}", re.I)


@dataclass
class SendResponse:
    """What became of each recipient of one call."""

    #: Those that the gateway took.
    sent: list[Recipient] = field(default_factory=list)
    #: The gateway's own ids of them, by the transmission's primary key.
    external_ids: dict[int, str] = field(default_factory=dict)
    #: Those of parts, where the gateway has several ids for one recipient.
    part_ids: dict[int, list[str]] = field(default_factory=dict)
    #: Those that it did not take, or of which that is not known.
    failed: list[Failure] = field(default_factory=list)
    #: Whether the call failed as a whole: no recipient was named, or the line failed for each.
    is_whole: bool = False
    #: Whether the backend was called: else the response tells nothing about the gateway.
    is_called: bool = True
    #: The type of what the backend returned or named, if that is not what a backend should.
    unexpected: str = ""

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
        return Outage(failure.summary, self.retry_after, suspect)

    @property
    def is_divisible(self) -> bool:
        """Whether one recipient among several may be the reason of the failure."""
        return (
            self.cause is Cause.PERMANENT
            and len(self.failed) > 1
            and self.failed[0].status in BAD_REQUEST
        )

    @property
    def retry_after(self) -> float | None:
        """For how long the gateway wants no calls, in seconds."""
        wishes = (failure.retry_after for failure in self.failed)
        return max((wish for wish in wishes if wish is not None), default=None)


def read(
    rows: list[Recipient], returned: Any, raised: BaseException | None, text: str = ""
) -> SendResponse:
    """Return what a backend's response says of each recipient; never raises.

    :param rows: to whom the message was sent.
    :param returned: what ``send()`` returned.
    :param raised: what it raised.
    :param text: the message's text, which no reason is to repeat.
    """
    try:
        response = _read_returned(rows, returned) if raised is None else _read_raised(rows, raised)
        response.failed = examine(response.failed, rows, text)
    except Exception as exc:  # of the backend's own class
        said = type(returned if raised is None else raised).__name__
        error = UnreadableResponse(f"Reading {said} from send() raised {type(exc).__name__}.")
        response = _failed(rows, error, said)
        response.failed = examine(response.failed, rows, text)
    return response


def _read_returned(rows: list[Recipient], returned: Any) -> SendResponse:
    if returned is None or returned is True:
        return SendResponse(sent=list(rows))
    if isinstance(returned, Mapping):
        return _read_mapping(rows, returned)
    unexpected = type(returned).__name__
    error = _failure([returned])
    if error is None:
        error = _refusal(returned, status_of(returned))
    if error is not None:
        response = _read_raised(rows, error)
        response.unexpected = unexpected
        return response
    if len(rows) == 1 and all(map(_is_id, parts := parts_of(returned))) and parts:
        response = SendResponse(sent=list(rows))
        _note_ids(response, rows[0], parts)
        return response
    if _is_success(returned):
        return SendResponse(sent=list(rows), unexpected=unexpected)
    return _failed(rows, _unreadable(unexpected, NOBODY), unexpected)


def _read_mapping(rows: list[Recipient], returned: Mapping[Any, Any]) -> SendResponse:
    said_of, of_nobody = Names(rows).match(returned)
    unexpected = type(returned).__name__
    if of_nobody and not said_of:
        return _failed(rows, _unreadable(unexpected, NOBODY), unexpected)
    unnamed = None
    if _failure(of_nobody) is not None:
        unnamed = _unreadable(unexpected, "says a failure of a name that is nobody's")
    response = SendResponse(unexpected=unexpected if of_nobody else "")
    for row in rows:
        parts = parts_of(said_of.get(row.id))
        error: Exception | None = unnamed
        if row.id in said_of:
            # of a part that failed the whole is not sent
            error = _failure(parts)
        if any(isinstance(each, Mapping) for each in parts):
            error = _unreadable(unexpected, "has no id beside a recipient, but a mapping")
            response.unexpected = unexpected
        if error is not None:
            response.failed.append(Failure(row, error, classify(error)))
            continue
        response.sent.append(row)
        _note_ids(response, row, parts)
    # of a backend that calls its gateway for one recipient after the other, and gets to none
    response.is_whole = all(failure.cause in LINE for failure in response.failed)
    response.is_whole &= not response.sent
    return response


def _read_raised(rows: list[Recipient], raised: BaseException) -> SendResponse:
    if not isinstance(raised, Exception):
        # SystemExit, or the time-out of a green thread: the call ended somewhere
        return _failed(rows, OutcomeUnknown(f"send() was ended by {type(raised).__name__}."))
    # what the router raised it from tells more; an exception of a class of ours tells all
    wrapped = type(raised) is MessageSendingError and isinstance(raised.__cause__, Exception)
    error: Exception = raised.__cause__ if wrapped else raised  # type: ignore[assignment]
    named = attribute(raised, "failed_identities")
    found, complete = Names(rows).find_all(() if named is None else named)
    rest = None
    if not complete:
        rest = UnreadableResponse("failed_identities of the exception names nobody of the call.")
        rest.__cause__ = error
    if not found:
        # of a call to one recipient the exception can be of no other
        response = _failed(rows, error if rest is None or len(rows) == 1 else rest)
    else:
        response, cause = SendResponse(), classify(error)
        for row in rows:
            if row.id in found:
                response.failed.append(Failure(row, error, cause))
            elif rest is not None:
                response.failed.append(Failure(row, rest, classify(rest)))
            else:
                response.sent.append(row)
    if rest is not None or not (found or isinstance(named, (type(None), Iterable))):
        response.unexpected = f"{type(raised).__name__}.failed_identities"
    return response


def _failed(rows: list[Recipient], error: Exception, unexpected: str = "") -> SendResponse:
    """Return the response of a call that failed as a whole."""
    cause = classify(error)
    failed = [Failure(row, error, cause) for row in rows]
    return SendResponse(failed=failed, is_whole=True, unexpected=unexpected)


def _unreadable(type_name: str, why: str) -> UnreadableResponse:
    return UnreadableResponse(f"The {type_name} that send() returned {why}.")


def _failure(values: Iterable[Any]) -> Exception | None:
    """Return the first failure among values; by identity, for an exception may say it is false."""
    found = map(_failure_of, values)
    return next((error for error in found if error is not None), None)


def _failure_of(said: Any) -> Exception | None:
    """Return the failure that a returned value, or the value beside a recipient, stands for."""
    if said is None or said is True or isinstance(said, str):
        return None  # nearly all
    if said is False:
        return _refused("send() returned False.")
    if isinstance(said, type) and issubclass(said, BaseException):
        said = _instance(said)
    if isinstance(said, BaseException):
        if not isinstance(said, Exception):
            return OutcomeUnknown(f"send() was ended by {type(said).__name__}.")
        return said
    if inspect.isawaitable(said) or inspect.isgenerator(said) or inspect.isasyncgen(said):
        if inspect.iscoroutine(said):
            said.close()  # else Python warns that nobody has awaited it
        kind = type(said).__name__
        return PermanentSendingError(f"send() has not run: it returned a {kind}.")
    return _refusal(said, _http(said))


def _instance(class_: type[BaseException]) -> BaseException:
    """Return an exception of a class, which may want arguments."""
    ways: tuple[Callable[[], BaseException], ...] = (class_, partial(class_.__new__, class_))
    for make in ways:
        with suppress(Exception):
            return make()
    return _refused(f"send() returned {class_.__name__}.")


def _refusal(said: Any, status: int | None) -> Exception | None:
    """Return the failure that an HTTP status of 400 or more is."""
    if status is None or status < 400:
        return None
    return _refused(f"send() returned HTTP {status}.", status=status, response=said)


def _refused(text: str, **said: Any) -> Exception:
    error: Exception = MessageSendingError(text)
    vars(error).update(said)
    return error


def _http(said: Any) -> int | None:
    """Return the HTTP status of a response, if it is one."""
    found = (status_of(attribute(said, name)) for name in ("status_code", "status"))
    return next((status for status in found if status is not None), None)


def _is_success(said: Any) -> bool:
    """Return whether a returned value that is no failure means that all were sent.

    An object means it, as for RapidSMS whatever is not raised; a text, a number or a collection
    may be an error.
    """
    status = _http(said) or status_of(said)
    if status is not None:
        return 200 <= status < 300
    # by their classes: an object that a project's tests put in place of send() is iterable, too
    return not isinstance(said, (str, bytes, bytearray, Number, list, tuple, set, frozenset))


def _is_id(said: Any) -> bool:
    if not isinstance(said, (str, int, bytes, UUID)):
        return False
    return ID.fullmatch(spelled(said)) is not None


def _note_ids(response: SendResponse, row: Recipient, parts: list[Any]) -> None:
    ids = external_ids_of(parts)
    if ids:
        response.external_ids[row.id] = " ".join(ids)[:LONGEST_EXTERNAL_ID]
    if len(ids) > 1:
        response.part_ids[row.id] = ids
