"""What all workers have to know of a backend."""

from __future__ import annotations

import datetime
import uuid

from django.db import models
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import connection
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel


class BackendStateQuerySet(models.QuerySet["BackendState"]):
    """The states of backends, of which a worker locks one before it decides by it."""

    def paused(self) -> BackendStateQuerySet:
        """Select those to which nothing is to be sent now."""
        endless = models.Q(paused_until=None)
        return self.filter(endless | models.Q(paused_until__gt=now()), paused=True)

    def lock(self, backend_id: int) -> BackendState:
        """Let no other process decide about a backend until the surrounding transaction has ended.

        :returns: the backend's state, which is made if there is none.
        """
        states = self.filter(backend=backend_id)
        # by a write: SELECT FOR UPDATE does not exist on SQLite
        if not states.update(locked=now()):
            # one statement: of several processes that insert together, and lock what they find
            # there, MariaDB would have some wait for each other
            named = connection().features.supports_update_conflicts_with_target
            self.bulk_create(
                [BackendState(backend_id=backend_id)],
                update_conflicts=True,
                update_fields=["locked"],
                unique_fields=["backend"] if named else None,
            )
        return states.get()


class BackendState(PrimaryModel):
    """Whether a backend may be called now: its pause, its circuit breaker and its rate.

    Code that decides by it, or changes it, locks it first.
    """

    #: The backend.
    backend = models.OneToOneField(Backend, related_name="router_state", on_delete=models.CASCADE)
    #: When it was last locked.
    locked = models.DateTimeField(default=now)
    #: Whether an operator wants nothing to be sent to it.
    paused = models.BooleanField(default=False)
    #: Since when, by which operator and why; until when, if the pause has an end.
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=150, blank=True)
    pause_reason = models.CharField(max_length=200, blank=True)
    paused_until = models.DateTimeField(null=True)
    #: What operators have set in place of the backend's options; empty: the option counts.
    rate = models.CharField(max_length=20, blank=True)
    concurrency = models.PositiveIntegerField(null=True)
    max_retries = models.PositiveIntegerField(null=True)
    #: How many calls in a row failed by the gateway's fault.
    failures = models.PositiveIntegerField(default=0)
    #: Transmissions that an account or URL error has met in a row, each once.
    failed_ids = models.JSONField(default=list)
    #: Until when the circuit is open; it is half-open afterwards. ``None``: it is closed.
    open_until = models.DateTimeField(null=True)
    #: Since when the circuit is not closed.
    opened_at = models.DateTimeField(null=True)
    #: Why, in one line.
    reason = models.TextField(blank=True)
    #: When the oldest message that may be sent was stored, if people were told that it is old.
    backlog_since = models.DateTimeField(null=True)
    #: The theoretical arrival time of the next segment (GCRA): up to then the rate is granted.
    granted_until = models.DateTimeField(null=True)

    objects = PrimaryManager.from_queryset(BackendStateQuerySet)()

    def __str__(self) -> str:
        return f"{self.backend_id}: {'paused' if self.paused else 'not paused'}"

    def is_paused(self, moment: datetime.datetime) -> bool:
        """Return whether nothing is to be sent to the backend at a moment."""
        return self.paused and (self.paused_until is None or self.paused_until > moment)


class SlotLease(PrimaryModel):
    """How many calls of a backend one sender may have in flight, until its lease ends."""

    #: The backend.
    backend = models.ForeignKey(Backend, related_name="+", on_delete=models.CASCADE)
    #: The sender: one in each worker process.
    sender = models.UUIDField(default=uuid.uuid4)
    #: Calls that it may have in flight at once.
    slots = models.PositiveIntegerField(default=0)
    #: Calls that it could have in flight now without any limit.
    wanted = models.PositiveIntegerField(default=0)
    #: Calls that it has in flight.
    in_flight = models.PositiveIntegerField(default=0)
    #: Threads of calls that did not keep their deadline and have not returned yet.
    abandoned = models.PositiveIntegerField(default=0)
    #: SMS segments a second that it has sent of late.
    pace = models.FloatField(default=0)
    #: When the lease ends, unless it is renewed.
    expires_at = models.DateTimeField()

    objects = PrimaryManager()

    class Meta(PrimaryModel.Meta):
        constraints = (
            models.UniqueConstraint(fields=("backend", "sender"), name="one_lease_a_sender"),
        )

    def __str__(self) -> str:
        return f"{self.backend_id}: {self.slots} slots"


class Gateway(Backend):
    """A backend, as operators see it."""

    objects: models.Manager[Backend] = PrimaryManager()

    class Meta:
        proxy = True
        base_manager_name = "objects"
        default_permissions = ("view",)
        verbose_name = "backend"
        permissions = (("pause_backend", "Can pause and resume a backend, and change its limits"),)
