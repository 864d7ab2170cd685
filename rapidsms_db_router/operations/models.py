"""Tallies: how many transmissions of each hour have which outcome, and how long they took.

A figure of any period is a sum of tallies, so that no page reads the transmissions themselves. An
hour is a range of primary keys, so that no index of dates is needed.
"""

from __future__ import annotations

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _
from rapidsms.models import Backend

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: The most characters of a reason.
LONGEST_REASON = 80


class Outcome(models.TextChoices):
    """What has become of a transmission, as operators ask for it.

    ========= =====================================================================
    waiting   it is still to be processed or sent, or it will be tried again
    received  the apps have run on it
    sent      the gateway accepted it
    delivered a delivery report said so
    failed    it was given up; an inbound transmission: an app raised
    ========= =====================================================================
    """

    WAITING = "waiting"
    RECEIVED = "received"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"


class Span(models.TextChoices):
    """What is timed.

    ========= =====================================================================
    answered  from the arrival of a text to the sending of its reply
    sent      from the moment when a message may be sent until it is sent
    delivered from the sending until the delivery
    ========= =====================================================================
    """

    ANSWERED = "answered"
    SENT = "sent"
    DELIVERED = "delivered"


class Hour(PrimaryModel):
    """An hour in which transmissions were stored, as a range of primary keys.

    The range ends where that of the next hour begins.
    """

    #: When it begins.
    start = models.DateTimeField(unique=True)
    #: The primary key of its first transmission.
    first_id = models.BigIntegerField()
    #: When it was tallied last.
    tallied_at = models.DateTimeField(null=True)
    #: Whether nothing of it is expected to change any more: a report, or a message that waits.
    is_final = models.BooleanField(default=False, db_index=True)
    #: How long the last tally took, in seconds.
    took = models.FloatField(default=0)
    #: Whether some of its rows may be deleted: it is never tallied again.
    pruned = models.BooleanField(default=False)

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M %Z}".rstrip()


class Tally(PrimaryModel):
    """How many transmissions of one hour have the same backend, outcome and reason."""

    #: The hour in which they were stored.
    hour = models.ForeignKey(Hour, related_name="tallies", on_delete=models.CASCADE)
    #: The backend's name.
    backend = models.CharField(max_length=75)
    #: Which way they go.
    direction = models.CharField(max_length=1, choices=Direction.choices)
    #: What has become of them.
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    #: Why they failed: an error without what differs from one recipient to the next.
    reason = models.CharField(max_length=LONGEST_REASON, blank=True)
    #: How many there are.
    transmissions = models.PositiveBigIntegerField()
    #: How many SMS segments they are.
    segments = models.PositiveBigIntegerField()

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.hour_id} {self.backend} {self.outcome}: {self.transmissions}"


class Latency(PrimaryModel):
    """How long the transmissions of one hour and backend took, as a histogram."""

    #: The hour in which they were stored.
    hour = models.ForeignKey(Hour, related_name="latencies", on_delete=models.CASCADE)
    #: The backend's name.
    backend = models.CharField(max_length=75)
    #: What was timed.
    span = models.CharField(max_length=9, choices=Span.choices)
    #: How many took no longer than each of :data:`.histograms.BOUNDS`; the last number: longer.
    counts = models.JSONField()

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.hour_id} {self.backend} {self.span}"


class Broadcast(PrimaryModel):
    """A message to many people; found by the tallies, or written on the page."""

    #: The message.
    message = models.OneToOneField(Message, related_name="broadcast", on_delete=models.CASCADE)
    #: How many people it is for.
    recipients = models.PositiveBigIntegerField()
    #: Who wrote it, if it was written on the page.
    author = models.CharField(max_length=150, blank=True)

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.message_id}: {self.recipients}"


class Draft(PrimaryModel):
    """A broadcast that its author looks at before it is sent."""

    text = models.TextField()
    #: Whose connections it is for: of this backend ...
    backend = models.ForeignKey(Backend, related_name="+", on_delete=models.CASCADE)
    #: ... all, or those with these numbers.
    numbers = models.JSONField(null=True)
    not_before = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    author = models.CharField(max_length=150)

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.pk} by {self.author}"


class Alert(PrimaryModel):
    """An incident that is going on, or that was told of and has ended: each is told once."""

    #: What is wrong; see :mod:`.incidents`.
    code = models.CharField(max_length=20)
    #: The backend's name, if it is about one.
    backend = models.CharField(max_length=75, blank=True)
    #: The incident in one sentence, as it was when it began.
    sentence = models.TextField()
    #: When it was noticed.
    since = models.DateTimeField()
    #: When the managers were told.
    told_at = models.DateTimeField(null=True)

    objects = PrimaryManager()

    class Meta(PrimaryModel.Meta):
        constraints = (
            models.UniqueConstraint(fields=("code", "backend"), name="one_alert_an_incident"),
        )

    def __str__(self) -> str:
        return self.sentence


class AuditEntry(PrimaryModel):
    """Something that a person has done, on a page, in the admin or by a command."""

    #: When.
    date = models.DateTimeField(default=now)
    #: Who: a user's name, or that of a command with the name of the system's user.
    by = models.CharField(max_length=150)
    #: What was done; see :mod:`rapidsms_db_router.signals`.
    kind = models.CharField(max_length=20)
    #: To how many, if that is known.
    count = models.PositiveBigIntegerField(null=True)
    #: What was changed, as it was before and after: no text, and no number of a person.
    before = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    after = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    #: Why, in the person's words.
    reason = models.CharField(max_length=200, blank=True)

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.pk}: {self.kind} by {self.by}"

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """Of each thing that was changed its name, and what it was and is."""
        names = dict.fromkeys([*self.before, *self.after])
        pairs = [(name, self.before.get(name), self.after.get(name)) for name in names]
        return [(name, was, is_now) for name, was, is_now in pairs if was != is_now]


class AuditSubject(PrimaryModel):
    """What an entry is about. It stays when the row is deleted."""

    class Kind(models.TextChoices):
        """Whose primary key it is."""

        BACKEND = "backend", _("backend")
        MESSAGE = "message", _("message")
        MESSAGES = "messages", _("messages")
        CONNECTION = "connection", _("connection")
        BULK_ACTION = "bulk_action", _("bulk action")
        DRAFT = "draft", _("draft")

    entry = models.ForeignKey(AuditEntry, related_name="subjects", on_delete=models.CASCADE)
    kind = models.CharField(max_length=11, choices=Kind.choices)
    #: Its primary key.
    row = models.BigIntegerField()
    #: A backend's name.
    name = models.CharField(max_length=75, blank=True)
    #: The primary keys of the messages of one chunk, in order; ``row`` is the first of them ...
    rows = models.JSONField(null=True)
    #: ... and this the last.
    last_row = models.BigIntegerField(null=True)

    objects = PrimaryManager()

    class Meta(PrimaryModel.Meta):
        indexes = (models.Index(fields=("kind", "row", "entry"), name="audit_by_subject"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.row}"


class Access(models.Model):
    """No table: the permissions of the pages that belong to no table of their own."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (
            ("see_personal", "Can see numbers and texts"),
            ("send", "Can write to people"),
            ("broadcast", "Can write to many people at once"),
            ("export", "Can export what a list shows"),
        )

    def __str__(self) -> str:
        return "access"


class Sweep(PrimaryModel):
    """How far retention has looked through the messages, or the audit, for one of its periods.

    A sweep goes from the oldest row to the youngest that the period may be over for. There it
    waits for more. Once a day it begins anew, for what could not go the time before.
    """

    #: A key of ``DB_ROUTER_RETENTION``.
    period = models.CharField(max_length=9, unique=True)
    #: The primary key of the last message, or audit entry, that it has looked at.
    last_id = models.BigIntegerField(default=0)
    #: When it last began with the oldest.
    begun = models.DateTimeField()
    #: When it looks again.
    next_look = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.period}: {self.last_id}"
