"""Messages and their transmissions: what was said, to and by whom, and how far it has come."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Collection, Iterable
from typing import Any

from django.db import models, transaction
from rapidsms.models import Backend, Connection

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Outcome, Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.indexes import PresentIndex
from rapidsms_db_router.querysets import (
    BackendStateQuerySet,
    BatchQuerySet,
    MessageQuerySet,
    RecoveryTurnQuerySet,
    TransmissionQuerySet,
)

logger = logging.getLogger(__name__)

NO_RECIPIENTS = "no recipients"
#: Of so many transmissions the statuses can be counted at any time.
FEW = 1000
#: Transmissions of one message are stored together: most often the next is no further away.
NEAR = 1000
#: The error of a message that is not done yet; how many there are is counted in the end.
SOME_ERRORED = "some transmissions errored"


class Message(models.Model):
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
    #: Before when none of its transmissions is sent.
    not_before = models.DateTimeField(null=True, blank=True)
    #: From when on none of them is sent any more.
    expires_at = models.DateTimeField(null=True, blank=True)
    #: Dotted path of the RapidSMS message's class, where it is not the usual one.
    message_class = models.CharField(max_length=255, blank=True)
    #: Why the message is E.
    error = models.TextField(blank=True)
    #: Whether some of its transmissions were given up.
    given_up = models.BooleanField(default=False, editable=False)
    #: Its first transmission that is not delivered, as far as reports have told: all before it
    #: are. So that a report costs no more where there are a million others.
    undelivered = models.BigIntegerField(null=True, editable=False)
    #: Who is processing this inbound message, or sending this reply.
    claim = models.UUIDField(null=True, blank=True, editable=False)
    #: When recovery looks whether the message needs something; ``None`` once nothing is left to
    #: be done. Whoever works on the message puts it off.
    due = models.DateTimeField(null=True, blank=True, db_index=True)
    #: How often a worker was told of this inbound message, without any taking it.
    calls = models.PositiveIntegerField(default=0)
    #: How often the apps were started on this inbound message.
    attempts = models.PositiveIntegerField(default=0)
    #: What a repetition of this inbound message would have too; see :func:`repetition_key`.
    repetition_key = models.CharField(max_length=64, null=True, editable=False, unique=True)  # noqa: DJ001

    #: Its transmissions with their connections, if it has just been stored, or taken to be
    #: processed, and they are few.
    stored_rows: list[Transmission] | None = None
    #: Where replies to it go, while it is being processed.
    replies: Any = None

    objects = MessageQuerySet.as_manager()

    class Meta:
        permissions = (
            ("resend_message", "Can send errored transmissions again"),
            ("reprocess_message", "Can process an errored inbound message again"),
            ("cancel_message", "Can cancel what is still to be sent of a message"),
        )

    def __str__(self) -> str:
        return self.text[:60]

    def set_status(self) -> str:
        """Bring the status up to date with the transmissions, and return its letter.

        Outbound: E if any transmission is E, else P if any is neither S nor D, else S if any is
        S, else D; without transmissions E. Inbound: E if any is E, else Q until all are R.

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
            counts, given_up = self._counts()
            self.status = self._status_from(counts)
            if self.direction == Direction.OUTGOING:
                self.refresh_from_db(fields=("sent", "delivered"))
                self.error, self.given_up = self._error_from(counts), given_up
                # each date is that of the first time, whatever is reported later
                if self.status in (Status.SENT, Status.DELIVERED):
                    self.sent = self.sent or self.updated
                if self.status == Status.DELIVERED:
                    self.delivered = self.delivered or self.updated
            columns = ("status", "error", "sent", "delivered", "given_up")
            written = {column: getattr(self, column) for column in columns}
            pending = counts.keys() & {Status.QUEUED, Status.PROCESSING}
            if not pending and not self.batches.exists():
                written["due"] = self.due = None
            messages.update(**written)
        return self.status

    def status_now(self) -> str:
        """Return the letter that :meth:`set_status` would store."""
        return self._status_from(self._counts()[0])

    def _counts(self) -> tuple[dict[str, int], bool]:
        """Return how many transmissions have each status, and whether any was given up."""
        final = models.Q(status=Status.ERRORED, next_try__isnull=True)
        rows = self.transmissions.order_by().values_list("status")
        counted = list(rows.annotate(n=models.Count("pk"), of=models.Count("pk", filter=final)))
        return {status: n for status, n, _ in counted}, any(given_up for *_, given_up in counted)

    def _status_from(self, counts: dict[str, int]) -> str:
        found = set(counts)
        if Status.ERRORED in found:
            return Status.ERRORED
        if self.direction == Direction.INCOMING:
            return Status.RECEIVED if found <= {Status.RECEIVED} else Status.QUEUED
        if not found:
            return Status.ERRORED
        if not found <= {Status.SENT, Status.DELIVERED}:
            return Status.PROCESSING
        return Status.SENT if Status.SENT in found else Status.DELIVERED

    @staticmethod
    def _error_from(counts: dict[str, int]) -> str:
        if not counts:
            return NO_RECIPIENTS
        errored = counts.get(Status.ERRORED, 0)
        return f"{errored} of {sum(counts.values())} transmissions errored" if errored else ""

    def follow_delivered(self, ids: Collection[int]) -> None:
        """Bring the status up to date after some of its transmissions were delivered.

        Without counting all of them: the message remembers one that is not delivered, before
        which all are, and only a report about that one has it look for the next. In all, each is
        looked at once.

        :param ids: primary keys of those that were delivered.
        """
        messages = type(self)._base_manager.filter(pk=self.pk)
        with transaction.atomic(using=self._state.db):
            if not messages.update(updated=now()):  # locked, as in set_status
                return
            known = messages.values_list("undelivered", flat=True)[0]
            if known is not None and known not in ids:
                return
            following = self._undelivered_after(known)
            messages.update(undelivered=following)
            if following is None:
                self.set_status()

    def _undelivered_after(self, pk: int | None) -> int | None:
        """Return the first of its transmissions after one that is not delivered, if any."""
        rest = self.transmissions.exclude(status=Status.DELIVERED).values_list("pk", flat=True)
        if pk is not None:
            near = rest.filter(pk__gt=pk, pk__lte=pk + NEAR).order_by("pk").first()
            if near is not None:
                return near
        # By an expression: by the key itself databases walk along that of the whole table.
        return rest.filter(pk__gt=pk or 0).order_by(models.F("pk") + 0).first()

    def follow_some(self) -> None:
        """Bring the status up to date after a report moved some of its transmissions.

        At once if they are few; of many, recovery counts soon how many are errored.
        """
        few = list(self.transmissions.order_by().values_list("status")[: FEW + 1])
        if len(few) <= FEW:
            self.set_status()
            return
        soon = now() + datetime.timedelta(seconds=conf.recovery_interval())
        messages = type(self)._base_manager.filter(pk=self.pk)
        messages.filter(due__isnull=True).update(due=soon)
        if self.transmissions.filter(status=Status.ERRORED).exists():
            messages.update(status=Status.ERRORED, error=SOME_ERRORED, given_up=True, updated=now())

    def refresh_status(self, without: Batch | None = None) -> str:
        """Like :meth:`set_status`, without a count where other batches are still to be sent.

        So that the status of a message to a million costs no more while it is sent than that of
        a message to a hundred. Of the batches that end at the same time, the last to look sees
        no other, whatever the order: each looks after its own end is committed.

        :param without: a batch that does not count as another.
        """
        others = self.batches.exclude(pk=without.pk) if without else self.batches.all()
        if not others.exists():
            return self.set_status()
        if self.status == Status.ERRORED:
            self._forget_errors()
        return self.status

    def _forget_errors(self) -> None:
        """Move the message from E to P if none of its transmissions is E."""
        messages = type(self)._base_manager.filter(pk=self.pk, status=Status.ERRORED)
        with transaction.atomic(using=self._state.db):
            # locked first, as in set_status
            if not messages.update(updated=now()) or self.batches.filter(errored=True).exists():
                return
            if messages.filter(given_up=False).update(status=Status.PROCESSING, error=""):
                self.status, self.error = Status.PROCESSING, ""


class Batch(models.Model):
    """Transmissions of one message to one backend that are still to be sent in one call.

    The to-do list of the workers: a row is here from the transaction that stores its
    transmissions to the one that stores how the last of them ended. A reply that the task that
    has stored it sends needs none unless something is left over. Of each message and backend
    only some have a date on which they are due; each that ends gives one of the others its turn
    in the same transaction, so that there is always one that recovery would find.
    """

    #: The message.
    message = models.ForeignKey(
        Message,
        related_name="batches",
        on_delete=models.CASCADE,
        db_index=False,  # the index below begins with it
    )
    #: The backend of all its recipients.
    backend = models.ForeignKey(
        Backend,
        related_name="+",
        on_delete=models.CASCADE,
        db_index=False,  # so does the other
    )
    #: Primary keys, a list in their order.
    transmission_ids = models.JSONField()
    #: The first of them, by which the batch is found.
    first_id = models.BigIntegerField()
    #: Who is sending it.
    claim = models.UUIDField(null=True, editable=False)
    #: When recovery takes it up, if nobody has put that off; ``None`` before its turn.
    due = models.DateTimeField(null=True, db_index=True)
    #: How often a worker was told of it, without any taking it.
    calls = models.PositiveIntegerField(default=0)
    #: When a worker was last told of it.
    called = models.DateTimeField(null=True)
    #: Its place among its message's batches to its backend.
    number = models.PositiveIntegerField(default=0)
    #: Whether it holds all transmissions of its message.
    whole = models.BooleanField(default=False)
    #: Whether it has given others their turn: each does so once, when its first try has ended.
    gave_turn = models.BooleanField(default=False)
    #: Whether its transmissions are E, and will be tried again.
    errored = models.BooleanField(default=False)

    objects = BatchQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=("message", "first_id"), name="batch_by_first"),
            models.Index(fields=("backend", "due"), name="batch_by_backend"),
        )

    def __str__(self) -> str:
        return f"{self.pk}: {len(self.transmission_ids)} transmissions of {self.message_id}"


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
    date = models.DateTimeField(default=now, editable=False)
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
    #: Who is sending it, while it is P.
    claim = models.UUIDField(null=True, blank=True, editable=False)
    #: The gateway's own id of it, if the backend has told.
    external_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001

    objects = TransmissionQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("message", "connection"), name="one_transmission_a_connection"
            ),
        )
        indexes = (PresentIndex(fields=("external_id",), name="transmission_by_external_id"),)

    def __str__(self) -> str:
        return f"{self.pk}: {self.get_status_display()}"


class BackendState(models.Model):
    """What all workers have to know of a backend: only one that has limits or trouble has a row.

    Whoever decides by it, or changes it, locks it first.
    """

    #: The backend.
    backend = models.OneToOneField(Backend, related_name="router_state", on_delete=models.CASCADE)
    #: When it was last locked.
    locked = models.DateTimeField(default=now)
    #: Whether an operator wants nothing to be sent to it.
    paused = models.BooleanField(default=False)
    #: How many calls failed one after the other, each of another batch than the one before.
    failures = models.PositiveIntegerField(default=0)
    #: The batch of the last of them.
    failed_batch = models.BigIntegerField(null=True)
    #: Until when it is left alone, since it failed or said so.
    closed_until = models.DateTimeField(null=True)
    #: When its rate allows the next call.
    free_at = models.DateTimeField(null=True)
    #: Up to when workers are told of the batches that its rate allows.
    told_until = models.DateTimeField(null=True)
    #: Whether batches wait that no other batch of their message will give a turn.
    line = models.BooleanField(default=False)

    objects = BackendStateQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.backend_id}: {'paused' if self.paused else 'not paused'}"

    @property
    def hinders(self) -> bool:
        """Whether a batch has to ask before it is sent."""
        return self.paused or self.line or self.closed_until is not None


class Gateway(Backend):
    """A backend, as operators see it."""

    class Meta:
        proxy = True
        verbose_name = "backend"
        permissions = (("pause_backend", "Can pause and resume a backend"),)


class EarlyReport(models.Model):
    """What a gateway reported of an id that it had not told yet, or never did."""

    #: The gateway's own id of what was sent.
    external_id = models.CharField(max_length=255, db_index=True)
    #: The backend's name, if it was said.
    backend_name = models.CharField(max_length=255, blank=True)
    #: What became of it; see :class:`~rapidsms_db_router.choices.Outcome`.
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    #: When, as the gateway says.
    date = models.DateTimeField(null=True)
    #: Why, in the gateway's words.
    reason = models.TextField(blank=True)
    #: When it came.
    received = models.DateTimeField(default=now, db_index=True)

    def __str__(self) -> str:
        return f"{self.external_id}: {self.outcome}"


class RecoveryTurn(models.Model):
    """When one of the workers looks for lost work again: one row, written by whoever does."""

    #: When the next look is due; moved by whoever looks.
    due = models.DateTimeField()

    objects = RecoveryTurnQuerySet.as_manager()

    def __str__(self) -> str:
        return f"due {self.due}"


def repetition_key(connections: Iterable[Connection], external_id: str, text: str) -> str | None:
    """Return what two inbound messages share if one is the gateway's repetition of the other.

    :returns: a digest of connections, external id and text; ``None`` without an external id,
        since people do send the same text twice.
    """
    if not external_id:
        return None
    ids: list[Any] = sorted(connection.pk for connection in connections)
    return hashlib.sha256(repr((ids, external_id, text)).encode("utf-8", "replace")).hexdigest()
