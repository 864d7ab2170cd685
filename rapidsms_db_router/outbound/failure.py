"""Why one recipient of a call did not get the message."""

from __future__ import annotations

from typing import NamedTuple

from rapidsms_db_router.db.text import storable
from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.masking import describe
from rapidsms_db_router.outbound.causes import Cause, http_status, may_be_recipients, retry_after

#: Why a transmission of which nobody knows whether the gateway has it is given up.
OUTCOME_UNKNOWN = "outcome unknown"


class Failure(NamedTuple):
    """Why one recipient did not get the message.

    An exception of a backend's own class may take any time to be read. So :func:`examine` reads it
    in the thread of the call, and the sender finds here all that it needs.
    """

    row: Recipient
    error: Exception
    cause: Cause
    #: The HTTP status that the error tells of.
    status: int | None = None
    #: For how long the gateway wants no calls, in seconds.
    retry_after: float | None = None
    #: Whether an outage may be about the recipient.
    may_be_recipients: bool = False
    #: The error as text, fit to be stored: without secrets, texts and identities.
    reason: str = ""

    @property
    def is_permanent(self) -> bool:
        """Whether no other try is to follow, whatever the settings."""
        return self.cause in (Cause.PERMANENT, Cause.UNREADABLE)

    @property
    def summary(self) -> str:
        """The error's class and HTTP status: nothing that a gateway or an app has said."""
        name = type(self.error).__name__
        return name if self.status is None else f"{name}: HTTP {self.status}"


def examine(failures: list[Failure], rows: list[Recipient], text: str) -> list[Failure]:
    """Return failures with all that is read of their errors.

    :param rows: the recipients of the call; no reason repeats the identity of one of them.
    :param text: the message's text; no reason repeats it.
    """
    identities = [row.identity for row in rows]
    # most often all recipients have one error
    known: dict[int, Failure] = {}
    examined = []
    for failure in failures:
        error, cause = failure.error, failure.cause
        if id(error) not in known:
            reason = describe(error, texts=[text], identities=identities)
            if cause in (Cause.UNKNOWN, Cause.UNREADABLE):
                reason = f"{OUTCOME_UNKNOWN}: {reason}"
            known[id(error)] = failure._replace(
                status=http_status(error),
                retry_after=retry_after(error),
                may_be_recipients=may_be_recipients(error),
                reason=storable(reason),
            )
        examined.append(known[id(error)]._replace(row=failure.row))
    return examined
