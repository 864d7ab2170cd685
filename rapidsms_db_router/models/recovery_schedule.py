"""When recovery looks for lost work again."""

from __future__ import annotations

import datetime

from django.db import models

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: A worker counts its own interval; a look that comes this much early is on time.
TOLERANCE = datetime.timedelta(seconds=1)


class RecoveryScheduleQuerySet(models.QuerySet["RecoverySchedule"]):
    """The one row of the schedule."""

    def claim(self) -> bool:
        """Return whether the caller is to look; if so, the next look is an interval away."""
        moment = now()
        following = moment + datetime.timedelta(seconds=conf.recovery_interval())
        if self.filter(pk=1, next_look__lte=moment + TOLERANCE).update(next_look=following):
            return True
        _, created = self.get_or_create(pk=1, defaults={"next_look": following})
        return created


class RecoverySchedule(PrimaryModel):
    """When one of the workers looks for lost work again: one row, moved by each look."""

    #: When the next look is due.
    next_look = models.DateTimeField()

    objects = PrimaryManager.from_queryset(RecoveryScheduleQuerySet)()

    def __str__(self) -> str:
        return f"next look {self.next_look}"
