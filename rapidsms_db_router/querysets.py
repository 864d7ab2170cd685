"""What selects and what moves many rows at once: taking work, ending it, dividing it.

Every move is one compare-and-set: an UPDATE that names the status it leaves, so that of two
processes that try the same move one changes the rows and the other none. That holds under READ
COMMITTED on every database Django supports, without a lock that outlives the statement.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from rapidsms.models import Connection

from rapidsms_db_router import conf, retries
from rapidsms_db_router.choices import Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import is_postgresql, rows_of, run

if TYPE_CHECKING:
    from rapidsms_db_router.models import (  # noqa: F401
        BackendState,
        Batch,
        Message,
        RecoveryTurn,
        Transmission,
    )

#: Clocks and timers are not exact: a retry that comes this much early is still due.
DUE_TOLERANCE = datetime.timedelta(seconds=1)

#: The width of the column of a transmission's external id.
LONGEST_EXTERNAL_ID = 255


class Taken(NamedTuple):
    """One transmission that the caller holds and has to send."""

    id: int
    identity: str
    attempts: int


class Group(NamedTuple):
    """Transmissions that may go to a backend in one call."""

    backend_id: int
    backend_name: str
    ids: list[int]


def lease() -> datetime.datetime:
    """Return until when work that is taken now may go without a sign of life."""
    return now() + datetime.timedelta(seconds=conf.visibility_timeout())


def _ends(ids: Collection[int]) -> tuple[int, int] | None:
    """Return the first and the last of ids that leave none out, as those of a batch most often."""
    if not ids:
        return None
    first, last = min(ids), max(ids)
    return (first, last) if last - first + 1 == len(set(ids)) else None


def _are(ids: Collection[int]) -> tuple[str, dict[str, int]]:
    """Return the SQL condition that a row is one of these, and its values.

    Drivers take statements apart once that stay the same.
    """
    if ends := _ends(ids):
        return "id BETWEEN %(first)s AND %(last)s", {"first": ends[0], "last": ends[1]}
    return f"id IN ({', '.join(str(int(pk)) for pk in ids) or 'NULL'})", {}


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages, and the moves of inbound ones."""

    def overdue(self) -> MessageQuerySet:
        """Select what nobody works on and somebody should, the longest overdue first."""
        return self.filter(due__lte=now()).order_by("due")

    def called_again(self) -> MessageQuerySet:
        """Select inbound messages that recovery has called for, and nobody has taken yet."""
        waiting = self.filter(status=Status.QUEUED, claim__isnull=True, calls__gt=0)
        return waiting.filter(due__gt=now())

    def take_inbound(self, message_id: int) -> uuid.UUID | None:
        """Take one inbound message that is Q and that nobody holds; it stays Q.

        :returns: the claim under which it is held, or ``None`` if it is not to be had: gone,
            processed, or held by another.
        """
        claim = uuid.uuid4()
        statement, values = self.to_take_inbound(message_id, claim)
        return claim if run(statement, **values) else None

    def to_take_inbound(self, message_id: int, claim: uuid.UUID) -> tuple[str, dict[str, Any]]:
        """Return the statement that takes an inbound message, and its values."""
        return (
            f"UPDATE {self.model._meta.db_table} SET claim = %(claim)s, due = %(due)s, calls = 0,"
            " attempts = attempts + 1, updated = %(moment)s"
            " WHERE id = %(message_id)s AND direction = 'I' AND status = 'Q' AND claim IS NULL",
            {"message_id": message_id, "claim": claim, "due": lease(), "moment": now()},
        )

    def finish_inbound(
        self, message_id: int, claim: uuid.UUID, status: Status, error: str = ""
    ) -> bool:
        """Move an inbound message that ``claim`` holds from Q to ``status``.

        :param status: R, or E with the ``error``.
        :returns: ``False`` if the claim was lost; then nothing changed.
        """
        finished = run(
            f"UPDATE {self.model._meta.db_table} SET status = %(status)s, claim = NULL, due = NULL,"
            " error = %(error)s, updated = %(moment)s"
            " WHERE id = %(message_id)s AND claim = %(claim)s AND status = 'Q'",
            message_id=message_id,
            claim=claim,
            status=status.value,
            error=error,
            moment=now(),
        )
        return bool(finished)

    def mark_sent(
        self, message_id: int, moment: datetime.datetime, claim: uuid.UUID | None
    ) -> bool:
        """Move an outbound message that is on its way to S.

        :param claim: who holds it; if anybody, a reply is marked by nobody else.
        :returns: ``False`` if it is not on its way, or held by another.
        """
        moved = run(
            f"UPDATE {self.model._meta.db_table} SET status = 'S', sent = %(moment)s,"
            " updated = %(moment)s, error = '', due = NULL, claim = NULL"
            " WHERE id = %(message_id)s AND status IN ('Q', 'P')"
            + ("" if claim is None else " AND claim = %(claim)s"),
            message_id=message_id,
            moment=moment,
            claim=claim,
        )
        return bool(moved)


class TransmissionQuerySet(models.QuerySet["Transmission"]):
    """Transmissions, and the moves of outbound ones."""

    def takeable(self) -> TransmissionQuerySet:
        """Select what may be sent now: Q, and E whose next try is due."""
        due = now() + DUE_TOLERANCE
        return self.filter(Q(status=Status.QUEUED) | Q(status=Status.ERRORED, next_try__lte=due))

    def named(self, ids: Collection[int]) -> TransmissionQuerySet:
        """Select by primary keys."""
        ends = _ends(ids)
        return self.filter(pk__range=ends) if ends else self.filter(pk__in=set(ids))

    def take(self, claim: uuid.UUID | None, message_id: int, ids: Collection[int]) -> list[Taken]:
        """Move what is takeable of ``ids`` from Q or E to P, and return what this call moved.

        :param claim: who holds the rows from now on.
        :param message_id: the outbound message they belong to.
        :param ids: primary keys of transmissions.
        :returns: the rows, in the order of their ids. Those that are held, sent, delivered, not
            due or gone are not among them.
        """
        moment = now()
        if is_postgresql():
            return self._take_at_once(claim, message_id, ids, moment)
        batch = self.named(ids).filter(message=message_id)
        taken = batch.takeable().update(
            status=Status.PROCESSING,
            claim=claim,
            attempts=F("attempts") + 1,
            next_try=None,
            updated=moment,
        )
        if not taken:
            return []
        rows = batch.filter(claim=claim).order_by("pk")
        columns = rows.values_list("pk", "connection__identity", "attempts")
        return [Taken(*row) for row in columns]

    def _take_at_once(
        self,
        claim: uuid.UUID | None,
        message_id: int,
        ids: Collection[int],
        moment: datetime.datetime,
    ) -> list[Taken]:
        """Do what :meth:`take` does in one statement."""
        named, values = _are(ids)
        # not joined: the plan of a join may read most connections for one batch
        identity = f"SELECT identity FROM {Connection._meta.db_table} c WHERE c.id = connection_id"
        taken = rows_of(
            f"UPDATE {self.model._meta.db_table} SET status = 'P', claim = %(claim)s,"
            " attempts = attempts + 1, next_try = NULL, updated = %(moment)s"
            f" WHERE {named} AND message_id = %(message_id)s"
            " AND (status = 'Q' OR status = 'E' AND next_try <= %(due)s)"
            f" RETURNING id, ({identity}), attempts",
            claim=claim,
            message_id=message_id,
            moment=moment,
            due=moment + DUE_TOLERANCE,
            **values,
        )
        return [Taken(*row) for row in sorted(taken)]

    def finish_inbound(self, message_id: int, status: Status) -> int:
        """Move all of an inbound message to ``status``; return how many there are."""
        return run(
            f"UPDATE {self.model._meta.db_table} SET status = %(status)s, updated = %(moment)s"
            " WHERE message_id = %(message_id)s",
            status=status.value,
            moment=now(),
            message_id=message_id,
        )

    def waiting(self) -> TransmissionQuerySet:
        """Select what will be tried again: E with a date."""
        return self.filter(status=Status.ERRORED, next_try__isnull=False)

    def held(self, claim: uuid.UUID | None, ids: Collection[int]) -> TransmissionQuerySet:
        """Select those of ``ids`` that ``claim`` still holds in P."""
        return self.named(ids).filter(claim=claim, status=Status.PROCESSING)

    def finish_sent(self, claim: uuid.UUID | None, ids: Collection[int]) -> int:
        """Move those of ``ids`` that ``claim`` holds from P to S; return how many moved."""
        named, values = _are(ids)
        return run(
            f"UPDATE {self.model._meta.db_table} SET status = 'S', claim = NULL,"
            " sent = %(moment)s, error = '', updated = %(moment)s"
            f" WHERE {named} AND claim = %(claim)s AND status = 'P'",
            claim=claim,
            moment=now(),
            **values,
        )

    def finish_errored(
        self,
        claim: uuid.UUID | None,
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

    def note_external_ids(self, external_ids: Mapping[int, str]) -> None:
        """Keep the gateway's own ids, by primary key."""
        cases = [models.When(pk=pk, then=models.Value(said)) for pk, said in external_ids.items()]
        column: models.CharField = models.CharField(max_length=LONGEST_EXTERNAL_ID)
        self.filter(pk__in=external_ids).update(
            external_id=models.Case(*cases, output_field=column)
        )

    def put_back(self, claim: uuid.UUID | None, ids: Collection[int]) -> int:
        """Like :meth:`release`, and the try does not count: it was the gateway's fault."""
        return self.held(claim, ids).update(
            status=Status.QUEUED, claim=None, attempts=F("attempts") - 1, updated=now()
        )

    def forget(self, reason: str) -> int:
        """Give up what is not being sent and would be: from Q, and E with a date, to E.

        :param reason: why.
        :returns: how many moved.
        """
        pending = Q(status=Status.QUEUED) | Q(status=Status.ERRORED, next_try__isnull=False)
        return self.filter(pending).update(
            status=Status.ERRORED, error=reason, next_try=None, updated=now()
        )

    def deliver(self, moment: datetime.datetime) -> int:
        """Move what a gateway says is delivered from wherever it is to D, where it stays.

        :param moment: when it was delivered.
        :returns: how many moved.
        """
        return self.exclude(status=Status.DELIVERED).update(
            status=Status.DELIVERED,
            claim=None,
            next_try=None,
            error="",
            sent=Coalesce("sent", models.Value(moment)),
            delivered=moment,
            updated=now(),
        )

    def fail(self, reason: str) -> int:
        """Move what a gateway says will not be delivered from P or S to E; return how many moved.

        From Q and E too, where a try follows, unless none was made yet: then the report is not of
        this try.
        """
        again = Q(status=Status.QUEUED) | Q(status=Status.ERRORED, next_try__isnull=False)
        tried = Q(status__in=(Status.PROCESSING, Status.SENT)) | (again & Q(attempts__gt=0))
        return self.filter(tried).update(
            status=Status.ERRORED, claim=None, error=reason, next_try=None, updated=now()
        )

    def accept(self) -> int:
        """Move what a gateway says it has from Q or E, where another try would follow, to S.

        :returns: how many moved: those of which nobody here knew how their try had ended.
        """
        again = Q(status=Status.QUEUED) | Q(status=Status.ERRORED, next_try__isnull=False)
        moment = now()
        return self.filter(again, attempts__gt=0).update(
            status=Status.SENT, sent=moment, next_try=None, error="", updated=moment
        )

    def release(self, claim: uuid.UUID | None, ids: Collection[int]) -> int:
        """Move those of ``ids`` that ``claim`` holds from P back to Q; return how many moved."""
        return self.held(claim, ids).update(status=Status.QUEUED, claim=None, updated=now())

    def groups(
        self, size: int | None = None, size_of: Callable[[str], int] = conf.batch_size
    ) -> Iterator[Group]:
        """Divide these transmissions by backend, then into groups in the order of their ids.

        :param size: most transmissions in a group; by default each backend's own.
        :param size_of: what that is, by the backend's name.
        :returns: the groups, from one query whatever their number.
        """
        backend = "connection__backend_id", "connection__backend__name"
        rows = self.order_by(*backend, "pk").values_list(*backend, "pk").iterator(2000)
        for (backend_id, name), group in groupby(rows, key=lambda row: row[:2]):
            ids = (pk for *_, pk in group)
            most = size or size_of(name)
            while batch := list(islice(ids, most)):
                yield Group(backend_id, name, batch)


class BatchQuerySet(models.QuerySet["Batch"]):
    """What is still to be sent."""

    def overdue(self) -> BatchQuerySet:
        """Select what nobody works on and somebody should, the longest overdue first."""
        return self.filter(due__lte=now()).order_by("due")

    def told(self) -> BatchQuerySet:
        """Select what workers have been told of, and none has taken."""
        return self.filter(due__isnull=False, claim__isnull=True)

    def called_again(self) -> BatchQuerySet:
        """Select what recovery has called for, and nobody has taken yet."""
        return self.filter(claim__isnull=True, calls__gt=1, due__gt=now())

    def hurry(self) -> int:
        """Have recovery take up soon what workers could not be told of; return how many."""
        return self.told().filter(calls=1).update(due=now())

    def take(self, batch_id: int, claim: uuid.UUID) -> bool:
        """Take a batch that nobody holds; return ``False`` if it is held, or gone."""
        free = self.filter(pk=batch_id, claim__isnull=True)
        return bool(free.update(claim=claim, due=lease(), calls=0, errored=False))

    def wait(self, batch_id: int) -> int:
        """Have a batch that nobody holds wait until another gives it its turn."""
        return self.filter(pk=batch_id, claim__isnull=True).update(due=None, calls=0)

    def come_at(self, batch_id: int, moment: datetime.datetime) -> int:
        """Have a batch that nobody holds come again, by a task that is put off until then.

        If that is too far away for a task, by recovery.
        """
        late = moment
        if (moment - now()).total_seconds() <= retries.LONGEST_COUNTDOWN:
            late += datetime.timedelta(seconds=conf.visibility_timeout())
        free = self.filter(pk=batch_id, claim__isnull=True)
        return free.update(due=late, called=moment, calls=1)

    def line(self) -> BatchQuerySet:
        """Select those that wait for their turn, in the order in which they have it.

        Of several broadcasts the one that has come less far, and a reply before them all.
        """
        waiting = self.filter(due__isnull=True, claim__isnull=True)
        return waiting.select_related("backend", "message").order_by("number", "pk")

    def under_way(self) -> int:
        """Return how many are being sent, or will be as soon as can be."""
        return self.filter(due__isnull=False, errored=False).count()

    def give_turns(self, most: int, claim: uuid.UUID | None = None) -> list[Batch]:
        """Make up to ``most`` of those that wait for their turn due, in this order; return them.

        :param claim: who takes the first of them at once.
        """
        given: list[Batch] = []
        waiting = self.filter(due__isnull=True)
        while most > len(given) and (found := list(waiting[: most - len(given)])):
            for batch in found:
                # another that has just ended may have given it its turn
                mine = self.model.objects.filter(pk=batch.pk, due__isnull=True)
                taken_by = None if given else claim
                calls = 1 if taken_by is None else 0
                if mine.update(due=lease(), called=now(), calls=calls, claim=taken_by):
                    batch.claim = taken_by
                    given.append(batch)
        return given

    def take_next(self, message_id: int, backend_id: int, claim: uuid.UUID) -> list[Batch]:
        """Give the first that waits its turn and take it, as :meth:`give_turns` does."""
        if not is_postgresql():
            waiting = self.filter(message=message_id, backend=backend_id)
            return waiting.order_by("first_id").give_turns(1, claim)
        table = self.model._meta.db_table
        # one that is locked is just being taken; what has been taken is not selected
        taken = rows_of(
            f"UPDATE {table} SET claim = %(claim)s, due = %(due)s, called = %(moment)s, calls = 0"
            f" WHERE due IS NULL AND id = (SELECT id FROM {table}"
            "  WHERE message_id = %(message_id)s AND backend_id = %(backend_id)s AND due IS NULL"
            "  ORDER BY first_id LIMIT 1 FOR UPDATE SKIP LOCKED)"
            " RETURNING id, transmission_ids, first_id, number, whole, gave_turn, errored",
            claim=claim,
            due=lease(),
            moment=now(),
            message_id=message_id,
            backend_id=backend_id,
        )
        return [
            self.model(
                pk=pk,
                message_id=message_id,
                backend_id=backend_id,
                transmission_ids=json.loads(ids),
                first_id=first_id,
                claim=claim,
                number=number,
                whole=whole,
                gave_turn=gave_turn,
                errored=errored,
            )
            for pk, ids, first_id, number, whole, gave_turn, errored in taken
        ]

    def end(self, batch_id: int, claim: uuid.UUID) -> bool:
        """Delete a batch that ``claim`` holds; return ``False`` if it does not."""
        return bool(
            run(
                f"DELETE FROM {self.model._meta.db_table}"
                " WHERE id = %(batch_id)s AND claim = %(claim)s",
                batch_id=batch_id,
                claim=claim,
            )
        )


class BackendStateQuerySet(models.QuerySet["BackendState"]):
    """Who may decide about a backend."""

    def lock(self, backend_id: int) -> BackendState:
        """Let nobody else do so until the surrounding transaction has ended.

        :returns: the backend's state, which is made if there is none.
        """
        mine = self.filter(backend=backend_id)
        if not mine.update(locked=now()):
            self.get_or_create(backend_id=backend_id)
            mine.update(locked=now())
        return mine.get()


class RecoveryTurnQuerySet(models.QuerySet["RecoveryTurn"]):
    """Whose turn it is to look for lost work."""

    def take(self) -> bool:
        """Return whether it is the caller's turn; if so, the next is an interval away."""
        moment = now()
        following = moment + datetime.timedelta(seconds=conf.recovery_interval())
        # a little early counts: the caller has waited for an interval by its own clock
        due = self.filter(pk=1, due__lte=moment + DUE_TOLERANCE)
        if due.update(due=following):
            return True
        _, created = self.get_or_create(pk=1, defaults={"due": following})
        return created
