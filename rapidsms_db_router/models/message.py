"""Messages: what was said, and how far it has come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.db import models
from rapidsms.models import Connection

from rapidsms_db_router.choices import UNDER_WAY, Direction, Status, in_words
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import status
from rapidsms_db_router.models.indexes import PartialIndex
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: What is errored, and whose errored transmissions will all be tried again.
RETRYING = models.Q(status=Status.ERRORED, direction=Direction.OUTGOING, given_up=False)
RETRYING &= ~models.Q(error=status.NO_RECIPIENTS)


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages, selected by what recovery has to do about them."""

    def overdue(self, direction: str) -> MessageQuerySet:
        """Select what recovery has to look at in one direction, the longest overdue first."""
        return self.filter(recover_at__lte=now(), direction=direction).order_by("recover_at")

    def republished(self) -> MessageQuerySet:
        """Select inbound messages that recovery has published, and no worker has claimed yet."""
        waiting = self.filter(status=Status.QUEUED, claim_token__isnull=True, publishes__gt=0)
        return waiting.filter(recover_at__gt=now())


class Message(PrimaryModel):
    """One text, received from or to be sent to one or more connections."""

    #: How far the message has come; see :class:`~rapidsms_db_router.choices.Status`.
    status = models.CharField(max_length=1, choices=Status.choices, default=Status.QUEUED)
    #: When the message was stored.
    date = models.DateTimeField(default=now, editable=False)
    #: When its status was last written.
    updated = models.DateTimeField(auto_now=True, null=True)
    #: When the last of its transmissions had been sent.
    sent = models.DateTimeField(null=True, blank=True)
    #: When the last of its transmissions had been delivered.
    delivered = models.DateTimeField(null=True, blank=True)
    #: ``I`` or ``O``.
    direction = models.CharField(max_length=1, choices=Direction.choices)
    #: What was said.
    text = models.TextField()
    #: How many SMS segments the text takes.
    segments = models.PositiveSmallIntegerField(default=1, editable=False)
    #: The gateway's own id of the message, cut to the column.
    external_id = models.CharField(max_length=1024, blank=True)
    #: The message this one answers. A reply outlives what it answers.
    in_response_to = models.ForeignKey(
        "self", related_name="responses", null=True, blank=True, on_delete=models.SET_NULL
    )
    #: The ``fields`` of the RapidSMS message.
    fields = models.JSONField(default=dict, blank=True)
    #: What the backend of an outgoing message gets as its context; ``None`` if the message was
    #: not stored by the router.
    context = models.JSONField(null=True, blank=True)
    #: No transmission is sent before this date.
    not_before = models.DateTimeField(null=True, blank=True)
    #: No transmission is sent from this date on.
    expires_at = models.DateTimeField(null=True, blank=True)
    #: When operators paused it; ``None``: it is not paused.
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: Dotted path of the RapidSMS message's class, where it is not the usual one.
    message_class = models.CharField(max_length=255, blank=True)
    #: Why the message is E.
    error = models.TextField(blank=True)
    #: Whether some of its transmissions were given up.
    given_up = models.BooleanField(default=False, editable=False)
    #: Its first transmission that is not delivered, as far as reports have told.
    undelivered = models.BigIntegerField(null=True, editable=False)
    #: The claim of the worker that runs the apps on this inbound message, if one does.
    claim_token = models.UUIDField(null=True, blank=True, editable=False)
    #: When recovery looks at the message; ``None`` once nothing is left to be done. For a claimed
    #: message the end of the claim's lease.
    recover_at = models.DateTimeField(null=True, blank=True)
    #: How often recovery has published this inbound message since a worker last claimed it.
    publishes = models.PositiveIntegerField(default=0)
    #: How often the apps were started on this inbound message.
    attempts = models.PositiveIntegerField(default=0)
    #: When its text, fields and errors were erased; ``None``: they are all there.
    blanked_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: What a duplicate of this inbound message would have too; see :func:`dedup_key`.
    dedup_key = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001

    objects = PrimaryManager.from_queryset(MessageQuerySet)()

    class Meta(PrimaryModel.Meta):
        default_permissions = ("view",)
        constraints = (
            # a unique field would have a second index on PostgreSQL, for LIKE
            models.UniqueConstraint(fields=("dedup_key",), name="one_message_a_dedup_key"),
        )
        indexes = (
            # without the finished messages, which are nearly all
            PartialIndex(fields=("recover_at",), null="recover_at", name="message_to_recover"),
        )
        permissions = (
            ("resend_message", "Can send errored transmissions again"),
            ("reprocess_message", "Can process an errored inbound message again"),
            ("cancel_message", "Can cancel what is still to be sent of a message"),
            ("pause_message", "Can pause a message, and send what waits at another date"),
        )

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def state(self) -> str:
        """The status in words.

        ``Retrying`` for E if all errored transmissions will be tried again, else ``Failed``.
        """
        if self.status == Status.PROCESSING:
            return UNDER_WAY
        final = self.given_up or self.error == status.NO_RECIPIENTS
        return in_words(self.status, retrying=self.direction == Direction.OUTGOING and not final)

    def set_status(self) -> str:
        """Bring the status up to date with the transmissions, and return its letter.

        See ``rapidsms_db_router.models.status.derive`` for the rule.
        """
        return status.settle(self)


def backend_context(message: Message) -> dict[str, Any]:
    """Return the context that a backend gets with an outgoing message."""
    if message.context is not None:
        return dict(message.context)
    context: dict[str, Any] = {}
    if original := message.in_response_to:
        context["in_response_to"] = original.pk
        if original.external_id:
            context["external_id"] = original.external_id
    return context


def has_expired(message: Message) -> bool:
    """Return whether a message is not to be sent any more."""
    return message.expires_at is not None and message.expires_at <= now()


def dedup_key(connections: Iterable[Connection], external_id: str, text: str) -> str | None:
    """Return what two inbound messages share if one is a duplicate: the gateway posted it again.

    :returns: a digest of connections, external id and text; ``None`` without an external id,
        since people do send the same text twice.
    """
    if not external_id:
        return None
    ids: list[Any] = sorted(connection.pk for connection in connections)
    return hashlib.sha256(repr((ids, external_id, text)).encode("utf-8", "replace")).hexdigest()
