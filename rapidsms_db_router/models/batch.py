"""Batches: what is still to be sent."""

from __future__ import annotations

from django.db import models
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.indexes import PartialIndex
from rapidsms_db_router.models.message import Message
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: The position of replies: before all batches of broadcasts, which begin at 0.
REPLY = -1
#: Batches that one statement names.
CHUNK = 500


class BatchQuerySet(models.QuerySet["Batch"]):
    """The queue of the senders.

    A batch has two states: claimable from ``ready_at`` on, or claimed under a lease.
    """

    def claimable(self) -> BatchQuerySet:
        """Select what a sender may claim now."""
        return self.filter(claim_token__isnull=True, ready_at__lte=now(), paused=False)

    def claimed(self) -> BatchQuerySet:
        """Select what a sender has claimed."""
        return self.filter(recover_at__isnull=False)  # the lease has an index

    def make_ready(self, backend_id: int) -> None:
        """Have all that waits for its gateway be claimable now: the gateway works again."""
        moment = now()
        waiting = self.filter(backend=backend_id, claim_token=None, errored=False)
        waiting = waiting.filter(due_at__lte=moment, ready_at__gt=moment)
        ids = list(waiting.values_list("pk", flat=True))
        for start in range(0, len(ids), CHUNK):
            # by key alone: MariaDB would lock the other indexes first, a sender last
            some = self.filter(pk__in=ids[start : start + CHUNK], claim_token=None)
            some.update(ready_at=moment)

    def lost(self) -> BatchQuerySet:
        """Select what is claimed and whose lease has ended, the longest ended first."""
        return self.filter(recover_at__lte=now()).order_by("recover_at")


class Batch(PrimaryModel):
    """Transmissions of one message to one backend that are still to be sent.

    A row is here from the transaction that stores its transmissions to the transaction that stores
    how the last of them ended.

    ============ ==================== ========================= ==================
    state        ``claim_token``      ``ready_at``              ``recover_at``
    ============ ==================== ========================= ==================
    claimable    ``None``             from when on it may be    ``None``
                                      claimed
    claimed      the sender's claim   when it became claimable  the lease's end
    ============ ==================== ========================= ==================

    A paused batch keeps its dates and is claimed by nobody. A sender that has it gives it back.
    """

    #: The message.
    message = models.ForeignKey(Message, related_name="batches", on_delete=models.CASCADE)
    #: The backend of all its recipients.
    backend = models.ForeignKey(
        Backend,
        related_name="+",
        on_delete=models.CASCADE,
        db_index=False,  # the index below begins with it
    )
    #: Primary keys, a list in the order in which they are to be sent.
    transmission_ids = models.JSONField()
    #: Its place in the queue of its backend: ``REPLY``, else its number among the batches of
    #: its message. Of several broadcasts the one that has come less far is thereby before others.
    position = models.IntegerField(default=0)
    #: Since when it is to be sent: its message was stored, or has a date.
    due_at = models.DateTimeField(default=now)
    #: From when on it may be claimed: then, or later where its gateway or a next try makes it wait.
    ready_at = models.DateTimeField(default=now)
    #: The claim of the sender that has it, if one has.
    claim_token = models.UUIDField(null=True, editable=False)
    #: When the lease of that claim ends, unless it is renewed.
    recover_at = models.DateTimeField(null=True)
    #: Whether it holds all transmissions of its message.
    whole = models.BooleanField(default=False)
    #: Whether its transmissions are E, and will be tried again.
    errored = models.BooleanField(default=False)
    #: Whether operators have paused its message.
    paused = models.BooleanField(default=False)

    objects = PrimaryManager.from_queryset(BatchQuerySet)()

    class Meta(PrimaryModel.Meta):
        indexes = (
            PartialIndex(
                fields=("backend", "position", "id"),
                null="claim_token",
                present=False,
                name="claimable_batch",
            ),
            PartialIndex(fields=("recover_at",), null="recover_at", name="claimed_batch"),
        )

    def __str__(self) -> str:
        return f"{self.pk}: {len(self.transmission_ids)} transmissions of {self.message_id}"
