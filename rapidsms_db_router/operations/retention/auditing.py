"""Deleting old audit entries, and the bulk actions that have ended."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Batch, BulkAction, Message
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.operations import conf
from rapidsms_db_router.operations.models import AuditEntry, AuditSubject, Sweep
from rapidsms_db_router.operations.retention.erasing import CHUNK
from rapidsms_db_router.operations.retention.rules import AUDIT, FEWEST_DAYS, IDLE
from rapidsms_db_router.operations.retention.sweeping import ANEW, LOST, PAUSE, TURN

logger = logging.getLogger(__name__)

Kind, State = AuditSubject.Kind, BulkAction.State
#: Entries that are looked at together. One of a bulk action has hundreds of subjects.
WINDOW = 20
#: Messages that are asked for together.
MESSAGES = 2000


def date_of(days: int) -> datetime.datetime:
    """Return before when an entry has to be stored to go.

    :param days: from ``DB_ROUTER_RETENTION``.
    """
    return now() - datetime.timedelta(days=max(days, FEWEST_DAYS))


@dataclass
class AuditPruning:
    """Deletes audit entries and bulk actions, and counts them.

    An entry stays while its bulk action has not ended, or while one of its messages waits. A bulk
    action stays as long as an entry names it.

    :param before: what was done, or has ended, before may go.
    :param dry_run: whether all is only counted.
    """

    before: datetime.datetime
    dry_run: bool = False
    #: How many entries, and how many bulk actions, were deleted.
    entries: int = 0
    actions: int = 0
    _kept: set[int] = field(default_factory=set)

    def sweep(self, after: int = 0, *, until: float = float("inf")) -> tuple[int, bool]:
        """Look through entries, the oldest first; at the end, through bulk actions.

        :param after: a primary key: the first entry is behind it.
        :param until: when to look at no other entries, by the monotonic clock.
        :returns: the primary key of the last entry that was looked at; whether it was the last.
        """
        while True:
            rows = AuditEntry.objects.filter(pk__gt=after).order_by("pk")
            some = rows.values_list("pk", "date")[:WINDOW]
            ids = [pk for pk, date in some if date < self.before]
            if not ids:
                self._delete_actions()
                return after, True
            self._look_at(ids)
            after = ids[-1]
            if time.monotonic() >= until:
                return after, False

    def _look_at(self, ids: list[int]) -> None:
        kept = _needed(ids)
        self._kept |= kept
        gone = [pk for pk in ids if pk not in kept]
        self.entries += len(gone)
        if gone and not self.dry_run:
            subjects = AuditSubject.objects.filter(entry__in=gone).values_list("pk", flat=True)
            for some in _divide(list(subjects)):
                insist(partial(_delete, AuditSubject.objects.filter(among(some))))
            insist(partial(_delete, AuditEntry.objects.filter(among(gone))))

    def _delete_actions(self) -> None:
        naming = AuditSubject.objects.filter(kind=Kind.BULK_ACTION, row=OuterRef("pk"))
        if self.dry_run:
            naming = naming.filter(Q(entry__date__gte=self.before) | Q(entry__in=self._kept))
        ended = BulkAction.objects.filter(
            ~Exists(naming), state__in=(State.DONE, State.STOPPED), finished__lt=self.before
        )
        ids = list(ended.values_list("pk", flat=True))
        self.actions += len(ids)
        if not self.dry_run:
            for some in _divide(ids):
                insist(partial(_delete, BulkAction.objects.filter(among(some))))


def at_recovery(**_: object) -> None:
    """Prune for a bounded time; a receiver of the signal ``recovery_turn``."""
    days = conf.retention().get(AUDIT)
    if days is not None:
        take_turn(days)


def take_turn(days: int, seconds: float = TURN) -> None:
    """Go on where the last turn has stopped.

    :param days: from ``DB_ROUTER_RETENTION``.
    :param seconds: how long to go on.
    """
    until, moment = time.monotonic() + seconds, now()
    first = {"begun": moment, "next_look": moment}
    sweep, _ = Sweep.objects.get_or_create(period=AUDIT, defaults=first)
    mine = Sweep.objects.filter(pk=sweep.pk, next_look=sweep.next_look)
    if sweep.next_look > moment or not mine.update(next_look=moment + LOST):
        return
    pruning = AuditPruning(date_of(days))
    sweep.last_id, is_end = pruning.sweep(sweep.last_id, until=until)
    sweep.next_look = moment + PAUSE if is_end else moment
    if is_end and moment - sweep.begun > ANEW:
        # for what could not go the time before
        sweep.last_id, sweep.begun = 0, moment
    sweep.save(update_fields=["last_id", "begun", "next_look"])
    if pruning.entries or pruning.actions:
        logger.info("audit_pruned entries=%s actions=%s", pruning.entries, pruning.actions)


def _needed(ids: Collection[int]) -> set[int]:
    """Return the entries that are about what has not ended."""
    subjects = AuditSubject.objects.filter(entry__in=ids)
    of_actions = dict(subjects.filter(kind=Kind.BULK_ACTION).values_list("entry", "row"))
    unended = BulkAction.objects.filter(pk__in=set(of_actions.values())).exclude(
        state__in=(State.DONE, State.STOPPED)
    )
    running = set(unended.values_list("pk", flat=True))
    found = {entry for entry, pk in of_actions.items() if pk in running}
    entries: dict[int, set[int]] = {}
    of_messages = subjects.filter(kind__in=(Kind.MESSAGE, Kind.MESSAGES)).exclude(entry__in=found)
    for entry, row, rows in of_messages.values_list("entry", "row", "rows").iterator(100):
        for pk in rows or [row]:
            entries.setdefault(pk, set()).add(entry)
        if len(entries) >= MESSAGES:
            found |= _of_waiting(entries)
            entries = {}
    return found | _of_waiting(entries)


def _of_waiting(entries: dict[int, set[int]]) -> set[int]:
    """Return the entries of the messages that wait.

    :param entries: by message.
    """
    if not entries:
        return set()
    in_batches = Batch.objects.filter(among(entries, "message")).values_list("message", flat=True)
    unended = Message.objects.filter(among(entries)).exclude(IDLE).values_list("pk", flat=True)
    return {entry for pk in {*in_batches, *unended} for entry in entries[pk]}


def _divide(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _delete(rows: QuerySet[Any]) -> None:
    rows._raw_delete(alias())
