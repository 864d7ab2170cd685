"""Groups of failures: which transmissions have failed with the same backend for the same reason."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.models import BulkAction, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import GIVEN_UP
from rapidsms_db_router.operations.bisecting import key_since
from rapidsms_db_router.operations.reasons import BEGINS, reason_of
from rapidsms_db_router.operations.tallies.hours import hour_of

#: Primary keys that one statement looks through.
WINDOW = 500_000


@dataclass(frozen=True)
class Group:
    """Failures of a period."""

    backend: str
    direction: str
    reason: str
    since: datetime.datetime

    @property
    def kind(self) -> BulkAction.Kind:
        """What can be done about them."""
        inbound = self.direction == Direction.INCOMING
        return BulkAction.Kind.REPROCESS if inbound else BulkAction.Kind.RESEND


def ids_of(group: Group) -> list[int]:
    """Return the transmissions of a group: primary keys."""
    first = key_since(hour_of(group.since), Transmission)
    found: list[int] = []
    named = Q(connection__backend__name=group.backend, message__direction=group.direction)
    rows = Transmission.objects.filter(GIVEN_UP, named)
    newest = Transmission.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for begin in range(first, newest + 1, WINDOW):
        some = rows.filter(pk__gte=begin, pk__lt=begin + WINDOW).order_by("pk")
        begins = some.annotate(begins=BEGINS).values_list("pk", "begins")
        found += [pk for pk, error in begins.iterator(5000) if reason_of(error) == group.reason]
    return found


def prepare(group: Group, requested_by: str) -> BulkAction | None:
    """Choose what is to be done again: what fails later is not among it.

    :returns: the bulk action; ``None`` if the group is empty by now.
    """
    ids = ids_of(group)
    if not ids:
        return None
    failed: QuerySet[Any] = Transmission.objects.filter(among(ids))
    if group.kind is BulkAction.Kind.REPROCESS:
        failed = Message.objects.filter(pk__in=failed.order_by().values("message"))
    return bulk_actions.prepare(group.kind, failed, requested_by)
