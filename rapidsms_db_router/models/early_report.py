"""Delivery reports that came before the id they speak of."""

from __future__ import annotations

from django.db import models

from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.primary import PrimaryManager


class EarlyReport(models.Model):
    """What a gateway reported of an id that its backend had not returned yet, or never did."""

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

    objects = PrimaryManager()

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"{self.external_id}: {self.outcome}"
