"""What a backend's answer says of each recipient: pure functions of what it returned or raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.querysets import Taken

#: HTTP's "request timeout" and "too many requests": of the 4xx, those that pass.
PASSING = {408, 429}
#: What was asked for is wrong: it may be one recipient among many.
BAD_REQUEST = {400, 413, 414, 422}
#: No gateway is obeyed for longer than this, in seconds.
LONGEST_WISH = 86_400.0


class Failure(NamedTuple):
    """Why one recipient did not get the message."""

    row: Taken
    error: Exception
    permanent: bool


@dataclass
class Answer:
    """What became of each transmission of one call of a backend, or of several."""

    #: Those that the gateway took.
    sent: list[Taken] = field(default_factory=list)
    #: The gateway's own ids of them, by primary key, where it has told them.
    external_ids: dict[int, str] = field(default_factory=dict)
    #: Those that it did not take.
    failed: list[Failure] = field(default_factory=list)
    #: Whether a call failed as a whole: the gateway named nobody.
    unanswered: bool = False
    #: Whether it was said of a whole call that it was wrong, with nobody named.
    blames_nobody: bool = False

    def add(self, other: Answer) -> None:
        """Take in what another call has brought."""
        self.sent += other.sent
        self.external_ids |= other.external_ids
        self.failed += other.failed
        self.unanswered = self.unanswered or other.unanswered

    @property
    def out_of_order(self) -> bool:
        """Whether the gateway itself seems to be: it took nothing, and said nothing of anybody."""
        return self.unanswered and not self.sent and not any(f.permanent for f in self.failed)

    @property
    def retry_after(self) -> float | None:
        """For how long the gateway wants to be left alone, in seconds."""
        wishes = (retry_after(failure.error) for failure in self.failed)
        return max((wish for wish in wishes if wish is not None), default=None)


def read(rows: list[Taken], returned: Any, raised: Exception | None) -> Answer:
    """Return what a backend's answer says.

    RapidSMS's rule (``BackendBase.send``): whoever is not named in an exception's
    ``failed_identities`` was sent the message, if it names anyone. Beyond that a backend may
    return, by identity, the gateway's id of what it took, or the exception why it did not.

    :param rows: who the message was for.
    :param returned: what ``send()`` returned.
    :param raised: what it raised.
    """
    if raised is not None:
        return _read_raised(rows, raised)
    answer = Answer()
    told = returned if isinstance(returned, Mapping) else {}
    for row in rows:
        said = told.get(row.identity)
        if isinstance(said, Exception):
            answer.failed.append(Failure(row, said, is_permanent(said)))
            continue
        answer.sent.append(row)
        if said is not None and not isinstance(said, bool):
            answer.external_ids[row.id] = str(said)
    return answer


def _read_raised(rows: list[Taken], raised: Exception) -> Answer:
    # what the router raised it from tells more
    cause = raised.__cause__ if isinstance(raised.__cause__, Exception) else raised
    permanent = is_permanent(raised) or is_permanent(cause)
    named = getattr(raised, "failed_identities", None)
    identities = {str(one) for one in ([named] if isinstance(named, str) else named or ())}
    answer = Answer(unanswered=not named)
    for row in rows:
        if named and row.identity not in identities:
            answer.sent.append(row)
        else:
            answer.failed.append(Failure(row, cause, permanent))
    answer.blames_nobody = not named and len(rows) > 1 and http_status(cause) in BAD_REQUEST
    return answer


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of ``requests`` (or ``httpx``) tells of."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_permanent(error: BaseException) -> bool:
    """Return whether no other try can succeed."""
    if isinstance(error, PermanentSendingError):
        return True
    status = http_status(error)
    return status is not None and 400 <= status < 500 and status not in PASSING


def retry_after(error: BaseException) -> float | None:
    """Return for how long a gateway wants to be left alone, in seconds; at most a day.

    An exception's ``retry_after``, or HTTP's ``Retry-After`` (RFC 9110, 10.2.3), in seconds or as
    a date.
    """
    said = getattr(error, "retry_after", None)
    if said is None:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        said = headers.get("Retry-After")
    if said is None:
        return None
    try:
        seconds = float(said)
    except (TypeError, ValueError):
        try:
            date = parsedate_to_datetime(str(said))
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - datetime.now(timezone.utc)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WISH) if seconds == seconds else None
