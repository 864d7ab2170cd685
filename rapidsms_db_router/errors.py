"""Exceptions of this router. Those that concern sending are RapidSMS's MessageSendingError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rapidsms.errors import MessageSendingError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = (
    "BackendNotConfigured",
    "InvalidConnection",
    "MessageSendingError",
    "NoRecipients",
    "OutcomeUnknown",
    "PermanentSendingError",
    "RetryLater",
    "RouterNotBuilt",
    "TransmissionsFailed",
    "UnreadableResponse",
)


class InvalidConnection(ValueError):
    """A recipient or sender is no saved :class:`rapidsms.models.Connection`."""


class NoRecipients(MessageSendingError, ValueError):
    """An inbound message has no connection left to be answered; stored as its error."""


class PermanentSendingError(MessageSendingError):
    """For backends: no try will ever succeed, so there is to be none.

    Raised, it speaks of the whole call, or of its ``failed_identities`` if it names any; all
    others were sent. Returned from ``send()`` beside an identity, it speaks of that one.
    """


class RetryLater(MessageSendingError):
    """For backends: the gateway wants no calls for some time; no try counts.

    :param retry_after: for how long, in seconds.
    """

    def __init__(
        self,
        message: str = "The gateway wants to be left alone.",
        retry_after: float = 0,
        failed_identities: Collection[str] | None = None,
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, failed_identities)


class RouterNotBuilt(RetryLater):
    """An app, a backend or the router itself cannot be built for now, so that its work waits."""


class OutcomeUnknown(MessageSendingError):
    """A call did not answer in time, or its answer was lost: the gateway may have the message.

    Backends may raise it, too. ``"router.db.after_crash"`` decides what becomes of the recipients.
    """


class UnreadableResponse(OutcomeUnknown):
    """What ``send()`` returned or named fits no recipient of the call.

    The gateway may have the message. The next response would be no better, so none is asked for:
    the recipients are given up, whatever ``"router.db.after_crash"`` says.
    """


class BackendNotConfigured(PermanentSendingError, LookupError):
    """A connection's backend is missing from ``INSTALLED_BACKENDS``: no retry can help."""


class TransmissionsFailed(MessageSendingError):
    """A backend failed some or all transmissions of a batch.

    Its text names ids only, never a text or a number, so that it may be logged;
    ``failed_identities`` lists who did not get the message and ``__cause__`` is what the
    backend raised.
    """
