"""Delivery reports that came before the id they speak of."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from django.db import models
from rapidsms.models import Backend

from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import rows_of, table
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: How long a report waits for the id it speaks of.
KEPT = datetime.timedelta(days=1)
#: Reports that are kept at most. The oldest make room for new ones.
MOST = 100_000
#: Reports of one id that are kept at most.
MOST_OF_AN_ID = 5
#: A row takes less than a kilobyte.
LONGEST_EARLY_REASON = 100
#: Reports that are deleted at once.
CHUNK = 1000
#: Of this many new reports, the first ten have the oldest deleted: keys may be in steps, as in a
#: cluster of MariaDB.
ROUND = 1000


class EarlyReportQuerySet(models.QuerySet["EarlyReport"]):
    """Early reports: a bounded number of them, in the order in which they came."""

    def keep(self, **columns: Any) -> EarlyReport | None:
        """Keep a report, unless it is there already, or its id has as many as one may have.

        :param columns: of the new row.
        :returns: the row, if one was made.
        """
        compared = ("external_id", "backend", "message_id", "identity", "outcome")
        same_id = self.filter(external_id=columns["external_id"])
        kept = list(same_id.values_list(*compared)[:MOST_OF_AN_ID])
        backend = columns["backend"]
        new = {**columns, "backend": backend and backend.pk}
        if len(kept) == MOST_OF_AN_ID or tuple(new[name] for name in compared) in kept:
            return None
        return self.create(**columns)

    def has_any(self, ids: Iterable[str]) -> bool:
        """Return whether a report of one of some ids is kept; by hand, since each step asks."""
        values = {f"id{number}": external_id for number, external_id in enumerate(ids)}
        if not values:
            return False
        names = ", ".join(f"%({name})s" for name in values)
        named = f"SELECT 1 FROM {table(self.model)} WHERE external_id IN ({names}) LIMIT 1"
        return bool(rows_of(named, **values))

    def expire(self) -> int:
        """Delete what is too old, and the oldest of what is too much; return how many rows."""
        newest = self.order_by("-pk").values_list("pk", flat=True).first()
        count, since = 0, now() - KEPT
        while newest is not None:
            # by the primary key: the order in which they came needs no other index
            oldest = self.order_by("pk").values_list("pk", "received")[:CHUNK]
            gone = [pk for pk, received in oldest if received < since or pk <= newest - MOST]
            if gone:
                self.filter(pk__in=gone).delete()
            count += len(gone)
            if len(gone) < CHUNK:
                break
        return count


class EarlyReport(PrimaryModel):
    """What a gateway reported of an id that its backend had not returned yet, or never did."""

    #: The gateway's own id of what was sent.
    external_id = models.CharField(max_length=255)
    #: The backend, if it was said.
    backend = models.ForeignKey(
        Backend, related_name="+", null=True, on_delete=models.CASCADE, db_index=False
    )
    #: The primary key of the message, if it was said: perhaps of none.
    message_id = models.BigIntegerField(null=True)
    #: The recipient of the message, if it was said.
    identity = models.CharField(max_length=100, blank=True)
    #: What became of it; see :class:`~rapidsms_db_router.choices.Outcome`.
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    #: When, as the gateway says.
    date = models.DateTimeField(null=True)
    #: Why, in the gateway's words.
    reason = models.CharField(max_length=LONGEST_EARLY_REASON, blank=True)
    #: When it came.
    received = models.DateTimeField(default=now)

    objects = PrimaryManager.from_queryset(EarlyReportQuerySet)()

    class Meta(PrimaryModel.Meta):
        default_permissions = ("view",)
        # one index: that of the field would have a second one on PostgreSQL, for LIKE
        indexes = (models.Index(fields=("external_id",), name="early_report_by_external_id"),)

    def __str__(self) -> str:
        return f"{self.external_id}: {self.outcome}"
