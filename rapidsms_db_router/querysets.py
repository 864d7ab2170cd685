"""What selects and what moves many rows at once: taking work, finishing it, dividing it.

Every move is one compare-and-set: an UPDATE that names the status it leaves, so that of two
processes that try the same move one changes the rows and the other none. That holds under READ
COMMITTED on every database Django supports, without a lock that outlives the statement.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from django.db import models
from django.db.models import F, Q
from django.utils.timezone import now

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Status

if TYPE_CHECKING:
    from rapidsms_db_router.models import Message, Transmission  # noqa: F401

#: Clocks and timers are not exact: a retry that comes this much early is still due.
DUE_TOLERANCE = datetime.timedelta(seconds=1)


class Taken(NamedTuple):
    """One transmission that the caller holds and has to send."""

    id: int
    identity: str
    attempts: int


class Batch(NamedTuple):
    """Transmissions that may go to a backend in one call."""

    backend_id: int
    backend_name: str
    ids: list[int]


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages, and the moves of inbound ones."""

    def take_inbound(self, message_id: int) -> uuid.UUID | None:
        """Take one inbound message that is Q and that nobody holds; it stays Q.

        :returns: the claim under which it is held, or ``None`` if it is not to be had: gone,
            processed, or held by another.
        """
        claim, moment = uuid.uuid4(), now()
        free = self.filter(
            pk=message_id,
            direction=Direction.INCOMING,
            status=Status.QUEUED,
            claim__isnull=True,
        )
        taken = free.update(
            claim=claim, claimed_at=moment, attempts=F("attempts") + 1, updated=moment
        )
        return claim if taken else None

    def finish_inbound(
        self, message_id: int, claim: uuid.UUID, status: Status, error: str = ""
    ) -> bool:
        """Move an inbound message that ``claim`` holds from Q to ``status``.

        :param status: R, or E with the ``error``.
        :returns: ``False`` if the claim was lost; then nothing changed.
        """
        held = self.filter(pk=message_id, claim=claim, status=Status.QUEUED)
        return bool(held.update(status=status, claim=None, error=error, updated=now()))


class TransmissionQuerySet(models.QuerySet["Transmission"]):
    """Transmissions, and the moves of outbound ones."""

    def takeable(self) -> TransmissionQuerySet:
        """Select what may be sent now: Q, and E whose next try is due."""
        due = now() + DUE_TOLERANCE
        return self.filter(Q(status=Status.QUEUED) | Q(status=Status.ERRORED, next_try__lte=due))

    def take(self, message_id: int, ids: Collection[int]) -> tuple[uuid.UUID, list[Taken]]:
        """Move what is takeable of ``ids`` from Q or E to P, and return what this call moved.

        :param message_id: the outbound message they belong to.
        :param ids: primary keys of transmissions.
        :returns: the claim that now holds them, and the rows in the order of their ids. Rows
            that are held, sent, delivered, not due or gone are not among them.
        """
        claim, moment = uuid.uuid4(), now()
        batch = self.filter(pk__in=ids, message=message_id)
        taken = batch.takeable().update(
            status=Status.PROCESSING,
            claim=claim,
            claimed_at=moment,
            attempts=F("attempts") + 1,
            next_try=None,
            updated=moment,
        )
        if not taken:
            return claim, []
        rows = batch.filter(claim=claim).order_by("pk")
        columns = rows.values_list("pk", "connection__identity", "attempts")
        return claim, [Taken(*row) for row in columns]

    def held(self, claim: uuid.UUID, ids: Collection[int]) -> TransmissionQuerySet:
        """Select those of ``ids`` that ``claim`` still holds in P."""
        return self.filter(pk__in=ids, claim=claim, status=Status.PROCESSING)

    def finish_sent(self, claim: uuid.UUID, ids: Collection[int]) -> int:
        """Move those of ``ids`` that ``claim`` holds from P to S; return how many moved."""
        moment = now()
        return self.held(claim, ids).update(
            status=Status.SENT, claim=None, sent=moment, error="", updated=moment
        )

    def finish_errored(
        self,
        claim: uuid.UUID,
        ids: Collection[int],
        error: str,
        next_try: datetime.datetime | None,
    ) -> int:
        """Move those of ``ids`` that ``claim`` holds from P to E; return how many moved.

        :param error: the reason, for the admin.
        :param next_try: when they will be tried again, or ``None`` if they are given up.
        """
        return self.held(claim, ids).update(
            status=Status.ERRORED, claim=None, error=error, next_try=next_try, updated=now()
        )

    def batches(self, size: int | None = None) -> Iterator[Batch]:
        """Divide these transmissions by backend, then into batches in the order of their ids.

        :param size: most transmissions in a batch; by default each backend's own batch size.
        :returns: the batches, from one query whatever their number.
        """
        backend = "connection__backend_id", "connection__backend__name"
        rows = self.order_by(*backend, "pk").values_list(*backend, "pk").iterator(2000)
        for (backend_id, name), group in groupby(rows, key=lambda row: row[:2]):
            ids = (pk for *_, pk in group)
            most = size or conf.batch_size(name)
            while batch := list(islice(ids, most)):
                yield Batch(backend_id, name, batch)
