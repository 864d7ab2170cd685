"""The statements that every database understands."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from django.db import models, transaction
from django.db.models import F
from rapidsms.models import Connection

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, connection, run, table
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.models.transmission import CONNECTED, LONGEST_EXTERNAL_ID

#: What makes a JSON list of a column, where there are no arrays.
JSON_LISTS = {"mysql": "JSON_ARRAYAGG(id ORDER BY id)", "sqlite": "json_group_array(id)"}
#: What stands before a statement that makes such lists: MariaDB cuts them at its variable's length,
#: and with a lenient ``sql_mode`` does so silently.
LIST_PREFIXES = {"mysql": "SET STATEMENT group_concat_max_len = 4294967295 FOR "}
#: Rows that one CASE names.
CASES = 200
EXTERNAL_ID: models.CharField = models.CharField(max_length=LONGEST_EXTERNAL_ID)

T = TypeVar("T")


class Recipient(NamedTuple):
    """One transmission of a claimed batch."""

    id: int
    connection_id: int
    identity: str
    attempts: int
    #: Whether the last try of it failed, be it by the gateway's fault.
    has_failed: bool = False


class Portable:
    """Statements in the words of Django's ORM, or of plain SQL."""

    # Inbound

    def claim_inbound(self, message_id: int, token: uuid.UUID) -> Message | None:
        """Claim an inbound message that is Q and unclaimed; it stays Q.

        :returns: the message with its transmissions, their connections, backends and contacts
            prefetched; ``None`` if it is gone, processed, or claimed by another.
        """
        claimed = run(self.claim_inbound_sql(), **self.claim_inbound_values(message_id, token))
        if not claimed:
            return None
        rows = Transmission.objects.select_related("connection__backend", "connection__contact")
        ordered: Any = models.Prefetch("transmissions", rows.filter(CONNECTED).order_by("pk"))
        return Message.objects.prefetch_related(ordered).filter(pk=message_id).first()

    def claim_inbound_sql(self) -> str:
        """Return the statement that claims an inbound message."""
        return (
            f"UPDATE {table(Message)} SET claim_token = %(token)s, recover_at = %(recover_at)s,"
            " publishes = 0, attempts = attempts + 1, updated = %(moment)s"
            " WHERE id = %(message_id)s AND direction = 'I' AND status = 'Q'"
            # its own token: a claim whose commit succeeded, though nobody heard of it
            " AND (claim_token IS NULL OR claim_token = %(token)s)"
        )

    def claim_inbound_values(self, message_id: int, token: uuid.UUID) -> dict[str, Any]:
        """Return the values of that statement."""
        return {
            "message_id": message_id,
            "token": token,
            "recover_at": lease(),
            "moment": now(),
        }

    def finish_inbound(
        self, message_id: int, token: uuid.UUID, status: Status, error: str = ""
    ) -> bool:
        """Move an inbound message and its transmissions from Q to ``status``.

        :param token: the claim under which it is held.
        :param status: R, or E with the ``error``.
        :returns: ``False`` if the claim was lost; then nothing changed.
        """
        messages = Message.objects.filter(pk=message_id, claim_token=token, status=Status.QUEUED)
        moment = now()
        finished = messages.update(
            status=status, claim_token=None, recover_at=None, error=error, updated=moment
        )
        if finished:
            rows = Transmission.objects.filter(message=message_id)
            rows.update(status=status, updated=moment)
        return bool(finished)

    # Storing

    def insert(
        self, message: Message, connections: Collection[Connection], batch: Batch | None
    ) -> list[Recipient]:
        """Insert a message with a transmission, Q, for each connection, and their batch if any.

        :param message: not saved yet; it is saved afterwards.
        :param connections: each once, at least one.
        :param batch: one for all of them, whose message and transmissions are filled in here.
        """
        with transaction.atomic(using=alias()):
            message.save(force_insert=True)
            rows = Transmission.objects.bulk_create(
                Transmission(message=message, connection=each) for each in connections
            )
            if batch is not None:
                batch.message, batch.transmission_ids = message, [row.pk for row in rows]
                batch.save(force_insert=True)
        return [Recipient(row.pk, row.connection.pk, row.connection.identity, 0) for row in rows]

    def batches_prefix(self) -> str:
        """Return what stands before a statement with the query of :meth:`batches_sql` in it."""
        return LIST_PREFIXES.get(connection().vendor, "")

    def batches_sql(self, most: str, rows: str) -> str:
        """Return the query that cuts transmissions into batches.

        :param most: an SQL expression: the most transmissions in a batch.
        :param rows: FROM and WHERE of the transmissions ``t`` and their connections ``c``.
        :returns: a SELECT of ``backend_id``, ``number`` and ``ids``, a JSON list.
        """
        return (
            f"SELECT backend_id, number, {JSON_LISTS[connection().vendor]} AS ids"
            " FROM (SELECT placed.id, placed.backend_id,"
            " (placed.place - placed.place %% placed.most) / placed.most AS number"
            " FROM (SELECT t.id, c.backend_id, ROW_NUMBER() OVER"
            f" (PARTITION BY c.backend_id ORDER BY t.id) - 1 AS place, {most} AS most"
            f" FROM {rows}) placed) numbered GROUP BY backend_id, number"
        )

    # Sending

    def claim_batches(
        self,
        backend_id: int,
        token: uuid.UUID,
        most: int,
        only: Collection[int] | None = None,
        *,
        replies: bool = False,
        trial: bool = False,
    ) -> list[Batch]:
        """Claim the next batches of a backend, in the order of the queue.

        What another process is just claiming is left out, not waited for.

        :param most: how many.
        :param only: primary keys, if no others may be claimed.
        :param replies: whether only replies are wanted.
        :param trial: whether what was tried the longest ago comes first.
        """
        with transaction.atomic(using=alias()):
            if connection().vendor == "sqlite":
                # a transaction that reads before it writes may be refused
                Batch.objects.filter(pk=0).update(whole=False)
            free = Batch.objects.claimable().filter(backend=backend_id)
            if only is not None:
                free = free.filter(pk__in=only)
            if replies:
                free = free.filter(position__lt=0)
            claimed: list[Batch] = []
            first = "ready_at" if trial else "position"
            for batch in _locked(free.order_by(first, "pk"), most):
                row = Batch.objects.filter(pk=batch.pk, claim_token=None, paused=False)
                if row.update(claim_token=token, recover_at=lease()):
                    batch.claim_token = token
                    claimed.append(batch)
        return claimed

    def hold(self, batches: Mapping[int, uuid.UUID]) -> dict[int, bool]:
        """Lock claimed batches until the transaction ends.

        :param batches: claim tokens by primary key.
        :returns: those whose claim still counts, for recovery may have ended it, each with whether
            it is paused.
        """
        rows = Batch.objects.filter(pk__in=batches, claim_token__in=set(batches.values()))
        # by a write, which also renews the lease
        if rows.filter(paused=False).update(recover_at=lease()) == len(batches):
            return dict.fromkeys(batches, False)
        rows.filter(paused=True).update(recover_at=lease())
        return dict(rows.values_list("pk", "paused"))

    def renew(self, batches: Mapping[int, uuid.UUID]) -> None:
        """Renew the leases of claimed batches: one statement for all of them."""
        rows = Batch.objects.filter(pk__in=batches, claim_token__in=set(batches.values()))
        rows.update(recover_at=lease())

    def recipients(self, ids: Sequence[int], backend_id: int) -> list[Recipient]:
        """Return the transmissions of claimed batches that are Q, in no order.

        :param backend_id: the backend of the batches; connections of others are left out.
        """
        rows = Transmission.objects.filter(among(ids), status=Status.QUEUED)
        rows = rows.filter(connection__backend=backend_id)
        has_failed = models.ExpressionWrapper(~models.Q(error=""), models.BooleanField())
        columns = "pk", "connection_id", "connection__identity", "attempts", "has_failed"
        found = rows.annotate(has_failed=has_failed).values_list(*columns)
        return [Recipient(*row) for row in found]

    def requeue_errored(self, ids: Sequence[int]) -> int:
        """Move those of ``ids`` that will be tried again from E to Q; return how many moved."""
        rows = Transmission.objects.filter(among(ids), status=Status.ERRORED)
        return rows.filter(next_try__isnull=False).update(
            status=Status.QUEUED, next_try=None, updated=now()
        )

    def mark_processing(self, ids: Sequence[int]) -> set[int]:
        """Move those of ``ids`` that are Q to P, which counts as a try; return which moved."""
        queued = Transmission.objects.filter(among(ids), status=Status.QUEUED)
        moved = set(queued.select_for_update().values_list("pk", flat=True))
        Transmission.objects.filter(among(moved)).update(
            status=Status.PROCESSING, attempts=F("attempts") + 1, updated=now()
        )
        return moved

    def mark_sent(
        self, ids: Sequence[int], moment: datetime.datetime, external_ids: Mapping[int, str]
    ) -> int:
        """Move those of ``ids`` that are P to S; return how many moved.

        From Q, too: recovery may have requeued what a slow sender has sent after all.

        :param external_ids: the gateway's own ids of some of them, which are written together with
            that. A row that is updated twice in a transaction has PostgreSQL look for its message
            and its connection, and lock both.
        """
        unsent = (Status.PROCESSING, Status.QUEUED)
        changed = {"status": Status.SENT, "sent": moment, "error": "", "updated": moment}
        rows = Transmission.objects.filter(status__in=unsent)
        nameless = [pk for pk in ids if pk not in external_ids]
        marked = rows.filter(among(nameless)).update(**changed)
        for some in _divided({pk: external_ids[pk] for pk in ids if pk in external_ids}):
            marked += rows.filter(among(some)).update(
                **changed, external_id=by_key(some, EXTERNAL_ID)
            )
        return marked

    def note_external_ids(self, external_ids: Mapping[int, str]) -> None:
        """Keep the gateway's own ids of transmissions, by primary key, whatever their status."""
        for some in _divided(external_ids):
            Transmission.objects.filter(among(some)).update(external_id=by_key(some, EXTERNAL_ID))

    def mark_errored(self, failed: Mapping[int, tuple[str, datetime.datetime | None]]) -> None:
        """Move transmissions that are P to E.

        :param failed: by primary key the reason, for the admin, and when another try follows;
            ``None``: they are given up.
        """
        for some in _divided(failed):
            errors = {pk: error for pk, (error, _) in some.items()}
            dates = {pk: date for pk, (_, date) in some.items()}
            self._processing(some).update(
                status=Status.ERRORED,
                error=by_key(errors, models.TextField()),
                next_try=by_key(dates, models.DateTimeField()),
                updated=now(),
            )

    def requeue(self, ids: Sequence[int], error: str | None = None) -> int:
        """Move those of ``ids`` that are P back to Q; return how many moved. Their try counts not.

        :param error: why it failed, for the admin; ``None`` leaves what is written there.
        """
        written = {} if error is None else {"error": error}
        return self._processing(ids).update(
            status=Status.QUEUED, attempts=F("attempts") - 1, updated=now(), **written
        )

    def delete_batches(self, ids: Collection[int]) -> None:
        """Delete batches that the caller has locked: nothing of them is left to be sent."""
        if connection().vendor == "mysql":
            # Of a small table MariaDB would read every row, and wait for those of other senders. It
            # takes a hint with no DELETE, but a limit has it look up each row by its key.
            named = ", ".join(str(int(pk)) for pk in ids)
            run(f"DELETE FROM {table(Batch)} WHERE id IN ({named}) ORDER BY id LIMIT {len(ids)}")
            return
        Batch.objects.filter(pk__in=ids)._raw_delete(alias())

    def _processing(self, ids: Iterable[int]) -> models.QuerySet[Transmission]:
        return Transmission.objects.filter(among(ids), status=Status.PROCESSING)


def _locked(free: models.QuerySet[Batch], most: int) -> list[Batch]:
    """Lock the first batches that no other process has locked."""
    if not connection().features.has_select_for_update_skip_locked:
        return list(free[:most])
    locked: list[Batch] = []
    tried: list[int] = []
    while len(locked) < most:
        # By primary key alone: a walk along the index would lock what it passes there, and the
        # senders that have claimed that would wait for this one, and this one for them.
        rest = free.exclude(pk__in=tried).values_list("pk", flat=True)
        ids = list(rest[: most - len(locked)])
        if not ids:
            break
        tried += ids
        rows = Batch.objects.filter(pk__in=ids, claim_token=None, paused=False)
        locked += rows.order_by("position", "pk").select_for_update(skip_locked=True)
    return locked


def _divided(values: Mapping[int, T]) -> Iterator[dict[int, T]]:
    """Yield so many at a time that a statement may name each by a case of its own."""
    items = list(values.items())
    return (dict(items[start : start + CASES]) for start in range(0, len(items), CASES))


def by_key(values: Mapping[int, Any], column: models.Field) -> models.Case | models.Value:
    """Return the expression of a column that may have another value in each row."""
    if len(set(values.values())) == 1:
        return models.Value(next(iter(values.values())), output_field=column)
    cases = [
        models.When(pk=pk, then=models.Value(value, output_field=column))
        for pk, value in values.items()
    ]
    return models.Case(*cases, output_field=column)
