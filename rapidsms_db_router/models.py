"""Messages and their transmissions: what was said, to and by whom, and how far it has come."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import Any

from django.db import models, transaction
from django.utils.timezone import now
from rapidsms.models import Connection

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.querysets import MessageQuerySet, TransmissionQuerySet

logger = logging.getLogger(__name__)

NO_RECIPIENTS = "no recipients"


class Message(models.Model):
    """One text, received from or to be sent to one or more connections."""

    #: How far the message has come; see :class:`~rapidsms_db_router.choices.Status`.
    status = models.CharField(max_length=1, choices=Status.choices, default=Status.QUEUED)
    #: When the message was stored.
    date = models.DateTimeField(auto_now_add=True)
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
    #: Dotted path of the RapidSMS message's class, where it is not the usual one.
    message_class = models.CharField(max_length=255, blank=True)
    #: Why the message is E.
    error = models.TextField(blank=True)
    #: Who is processing this inbound message, and since when.
    claim = models.UUIDField(null=True, blank=True, editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True)
    #: How often the apps were started on this inbound message.
    attempts = models.PositiveIntegerField(default=0)
    #: What a repetition of this inbound message would have too; see :func:`repetition_key`.
    repetition_key = models.CharField(max_length=64, null=True, editable=False, unique=True)  # noqa: DJ001

    objects = MessageQuerySet.as_manager()

    class Meta:
        permissions = (
            ("resend_message", "Can send errored transmissions again"),
            ("reprocess_message", "Can process an errored inbound message again"),
        )

    def __str__(self) -> str:
        return self.text[:60]

    def set_status(self) -> str:
        """Bring the status up to date with the transmissions, and return its letter.

        Two batches that finish together cannot leave the message behind: the row is locked
        first, and the transmissions are read by a later statement, which sees all that was
        committed before the lock was had.
        """
        messages = type(self)._base_manager.filter(pk=self.pk)
        with transaction.atomic(using=self._state.db):
            # Locked by writing to it: SELECT FOR UPDATE does not exist on SQLite, where a
            # transaction that reads before it writes may be refused.
            self.updated = now()
            if not messages.update(updated=self.updated):
                return self.status  # deleted meanwhile
            statuses = set(
                self.transmissions.order_by().values_list("status", flat=True).distinct()
            )
            self.status = self._status_from(statuses)
            if self.direction == Direction.OUTGOING:
                self.refresh_from_db(fields=("sent", "delivered"))
                self.error = "" if statuses else NO_RECIPIENTS
                # each date is that of the first time, whatever is reported later
                if self.status in (Status.SENT, Status.DELIVERED):
                    self.sent = self.sent or self.updated
                if self.status == Status.DELIVERED:
                    self.delivered = self.delivered or self.updated
            messages.update(
                status=self.status, error=self.error, sent=self.sent, delivered=self.delivered
            )
        return self.status

    def _status_from(self, statuses: set[str]) -> str:
        if Status.ERRORED in statuses:
            return Status.ERRORED
        if self.direction == Direction.INCOMING:
            return Status.RECEIVED if statuses <= {Status.RECEIVED} else Status.QUEUED
        if not statuses:
            return Status.ERRORED
        if not statuses <= {Status.SENT, Status.DELIVERED}:
            return Status.PROCESSING
        return Status.SENT if Status.SENT in statuses else Status.DELIVERED

    def refresh_status(self) -> str:
        """Like :meth:`set_status`, without the lock where work is obviously pending.

        Of the batches of one message that finish at the same time, the last to look sees none
        pending, whatever the order: each looks after its own rows are committed.
        """
        pending = self.transmissions.filter(status__in=(Status.QUEUED, Status.PROCESSING))
        if self.status == Status.PROCESSING and pending.exists():
            return self.status
        return self.set_status()


class Transmission(models.Model):
    """One message from or to one connection."""

    #: The message.
    message = models.ForeignKey(
        Message,
        related_name="transmissions",
        on_delete=models.CASCADE,
        db_index=False,  # the unique constraint's index begins with it
    )
    #: From or to whom.
    connection = models.ForeignKey(
        Connection, related_name="transmissions", on_delete=models.CASCADE
    )
    #: How far it has come; see :class:`~rapidsms_db_router.choices.Status`.
    status = models.CharField(max_length=1, choices=Status.choices, default=Status.QUEUED)
    #: When it was stored.
    date = models.DateTimeField(auto_now_add=True)
    #: When its status was last written.
    updated = models.DateTimeField(auto_now=True, null=True)
    #: When the gateway accepted it.
    sent = models.DateTimeField(null=True, blank=True)
    #: When a delivery report said that it had arrived.
    delivered = models.DateTimeField(null=True, blank=True)
    #: Why the last try failed.
    error = models.TextField(blank=True)
    #: When an errored transmission will be tried again; ``None`` if it is given up.
    next_try = models.DateTimeField(null=True, blank=True)
    #: How often it was handed to the backend.
    attempts = models.PositiveIntegerField(default=0)
    #: Which worker's batch holds it while it is P, and since when.
    claim = models.UUIDField(null=True, blank=True, editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True)

    objects = TransmissionQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("message", "connection"), name="one_transmission_a_connection"
            ),
        )

    def __str__(self) -> str:
        return f"{self.pk}: {self.get_status_display()}"


def repetition_key(connections: Iterable[Connection], external_id: str, text: str) -> str | None:
    """Return what two inbound messages share if one is the gateway's repetition of the other.

    :returns: a digest of connections, external id and text; ``None`` without an external id,
        since people do send the same text twice.
    """
    if not external_id:
        return None
    ids: list[Any] = sorted(connection.pk for connection in connections)
    return hashlib.sha256(repr((ids, external_id, text)).encode("utf-8", "replace")).hexdigest()
