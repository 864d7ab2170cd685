"""Exceptions of this router. Those that concern sending are RapidSMS's MessageSendingError."""

from __future__ import annotations

from rapidsms.errors import MessageSendingError

__all__ = (
    "BackendNotConfigured",
    "InvalidConnection",
    "MessageSendingError",
    "NoRecipients",
    "TransmissionsFailed",
)


class InvalidConnection(ValueError):
    """A recipient or sender is no saved :class:`rapidsms.models.Connection`."""


class NoRecipients(MessageSendingError, ValueError):
    """An inbound message has no connection left to be answered; stored as its error."""


class BackendNotConfigured(MessageSendingError, LookupError):
    """A connection's backend is missing from ``INSTALLED_BACKENDS``: no retry can help."""


class TransmissionsFailed(MessageSendingError):
    """A backend failed some or all transmissions of a batch.

    Its text names ids only, never a text or a number, so that it may be logged;
    ``failed_identities`` lists who did not get the message and ``__cause__`` is what the
    backend raised.
    """
