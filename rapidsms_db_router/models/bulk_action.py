"""Bulk actions: what an operator wants done to many rows."""

from __future__ import annotations

import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: A bulk action of which no chunk was done for this long has lost its task, in seconds.
STALLED = 30.0


class BulkActionQuerySet(models.QuerySet["BulkAction"]):
    """Bulk actions, selected by what is to be done about them."""

    def stalled(self) -> BulkActionQuerySet:
        """Select what recovery has to publish again."""
        since = now() - datetime.timedelta(seconds=STALLED)
        return self.filter(state=BulkAction.State.RUNNING, updated__lte=since)


class BulkAction(PrimaryModel):
    """Something that is done to many rows, which were chosen before it began.

    What is still to be done is in its chunks. A chunk is deleted in the transaction that does it,
    so that a worker that dies leaves each chunk done or not done.
    """

    class Kind(models.TextChoices):
        """What is done.

        ========= ==========================================================================
        resend    errored transmissions are queued again; the rows are transmissions
        reprocess the apps run on errored inbound messages again; the rows are messages
        cancel    what is still to be sent of messages is given up; the rows are messages
        discard   what is still to be sent of batches is given up; the rows are batches
        send_now  what waits for its date is sent now; the rows are batches
        move      what waits is sent from another date on; the rows are batches
        ========= ==========================================================================
        """

        RESEND = "resend"
        REPROCESS = "reprocess"
        CANCEL = "cancel"
        DISCARD = "discard"
        SEND_NOW = "send_now"
        MOVE = "move"

    class State(models.TextChoices):
        """How far it has come.

        ======== ============================================================
        prepared the rows are chosen, and nobody has confirmed yet
        running  chunks are being done
        stopped  an operator has stopped it; the chunks done so far stay done
        done     all chunks are done
        ======== ============================================================
        """

        PREPARED = "prepared", _("Prepared")
        RUNNING = "running", _("Running")
        STOPPED = "stopped", _("Stopped")
        DONE = "done", _("Done")

    #: What is done.
    kind = models.CharField(max_length=9, choices=Kind.choices)
    #: How far it has come.
    state = models.CharField(max_length=8, choices=State.choices, default=State.PREPARED)
    #: The name of the user, or of the command, that asked for it.
    requested_by = models.CharField(max_length=150, blank=True)
    #: The reason, in the words of that user.
    reason = models.CharField(max_length=200, blank=True)
    #: The date from which its rows are to be sent, if it is ``move``.
    send_at = models.DateTimeField(null=True)
    #: When its rows were chosen.
    created = models.DateTimeField(default=now)
    #: When a chunk was last done.
    updated = models.DateTimeField(default=now)
    #: When the last chunk was done, or it was stopped.
    finished = models.DateTimeField(null=True)
    #: How many transmissions, those of batches too, or inbound messages, were chosen.
    total = models.PositiveIntegerField(default=0)
    #: How many of them were in chunks that are done.
    handled = models.PositiveIntegerField(default=0)
    #: How many of them were moved. The others had left their status by themselves before.
    changed = models.PositiveIntegerField(default=0)

    objects = PrimaryManager.from_queryset(BulkActionQuerySet)()

    class Meta(PrimaryModel.Meta):
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.pk}: {self.kind}, {self.handled} of {self.total}"


_TO_RESEND = ngettext_lazy(
    "%(count)s errored transmission will be sent again.",
    "%(count)s errored transmissions will be sent again.",
    "number",
)
_TO_REPROCESS = ngettext_lazy(
    "%(count)s errored inbound message will be processed again.",
    "%(count)s errored inbound messages will be processed again.",
    "number",
)
_TO_CANCEL = ngettext_lazy(
    "%(count)s transmission will be cancelled.",
    "%(count)s transmissions will be cancelled.",
    "number",
)
_CANCELLED = ngettext_lazy(
    "%(count)s transmission was cancelled.",
    "%(count)s transmissions were cancelled.",
    "number",
)
_TO_DISCARD = ngettext_lazy(
    "%(count)s transmission that waits will be given up.",
    "%(count)s transmissions that wait will be given up.",
    "number",
)
_DISCARDED = ngettext_lazy(
    "%(count)s transmission that waits was given up.",
    "%(count)s transmissions that wait were given up.",
    "number",
)
_TO_SEND_NOW = ngettext_lazy(
    "%(count)s transmission that waits will be sent now.",
    "%(count)s transmissions that wait will be sent now.",
    "number",
)
_TO_MOVE = ngettext_lazy(
    "%(count)s transmission that waits will be sent at another date.",
    "%(count)s transmissions that wait will be sent at another date.",
    "number",
)
#: What a bulk action of a kind will do to ``count`` rows, and what it has done.
SENTENCES = {
    BulkAction.Kind.RESEND: (_TO_RESEND, _TO_RESEND),
    BulkAction.Kind.REPROCESS: (_TO_REPROCESS, _TO_REPROCESS),
    BulkAction.Kind.CANCEL: (_TO_CANCEL, _CANCELLED),
    BulkAction.Kind.DISCARD: (_TO_DISCARD, _DISCARDED),
    BulkAction.Kind.SEND_NOW: (_TO_SEND_NOW, _TO_SEND_NOW),
    BulkAction.Kind.MOVE: (_TO_MOVE, _TO_MOVE),
}


class BulkActionChunk(PrimaryModel):
    """Rows of a bulk action that are still to be done, in one transaction."""

    #: The bulk action.
    action = models.ForeignKey(BulkAction, related_name="chunks", on_delete=models.CASCADE)
    #: Primary keys of the rows.
    ids = models.JSONField()
    #: How many transmissions, or inbound messages, that is.
    size = models.PositiveIntegerField()

    objects = PrimaryManager()

    def __str__(self) -> str:
        return f"{self.pk}: {self.size} of {self.action_id}"
