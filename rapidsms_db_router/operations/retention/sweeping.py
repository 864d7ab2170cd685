"""Looking through old messages, from the oldest on, for a bounded time at each turn of recovery."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Message
from rapidsms_db_router.operations import conf
from rapidsms_db_router.operations.bisecting import key_since
from rapidsms_db_router.operations.models import Sweep
from rapidsms_db_router.operations.retention import erasing
from rapidsms_db_router.operations.retention.archives import Archive
from rapidsms_db_router.operations.retention.rules import PERIODS, Rules, judge

logger = logging.getLogger(__name__)

#: A turn begins no other window after this many seconds.
TURN = 2.0
#: Messages that are looked at together: at first, and at most. A broadcast may be among them.
FEWEST, MOST = 50, 2000
#: A window that took longer than this, in seconds, is followed by one half as large.
SLOW = 0.3
#: Transmissions of one archive, about.
ARCHIVED = 50_000
#: Archives are written by command, or by turns that each have one of this many transmissions.
ARCHIVED_IN_A_TURN = 10_000
#: A sweep that has come to its end looks again after this time ...
PAUSE = datetime.timedelta(minutes=10)
#: ... and begins anew after this time.
ANEW = datetime.timedelta(days=1)
#: A turn that has ended without a word has lost its process.
LOST = datetime.timedelta(minutes=2)


@dataclass
class Pruning:
    """Blanks and deletes messages, and counts them.

    :param rules: what may go.
    :param archive: where what is deleted is written before, if it is.
    :param dry_run: whether all is only counted.
    :param most: transmissions of one archive, about.
    """

    rules: Rules
    archive: Archive | None = None
    dry_run: bool = False
    most: int = ARCHIVED
    #: How many messages were blanked.
    blanked: int = 0
    #: How many messages, and how many transmissions, were deleted.
    messages: int = 0
    transmissions: int = 0
    #: How many messages stay only because their hour is not tallied to the end.
    untallied: int = 0
    _size: int = FEWEST
    _pending: dict[int, int] = field(default_factory=dict)

    def sweep(
        self,
        after: int,
        before: int,
        *,
        until: float = float("inf"),
        tell: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Look through messages, the oldest first.

        :param after: a primary key: the first message is behind it.
        :param before: a primary key: the last message is before it.
        :param until: when to begin no other window, by the monotonic clock.
        :param tell: is told how many messages each window had.
        :returns: the primary key of the last message that was looked at; ``before`` if all were.
        """
        while True:
            begun = time.monotonic()
            rows = Message.objects.filter(pk__gt=after, pk__lt=before).order_by("pk")
            ids = list(rows.values_list("pk", flat=True)[: self._size])
            if not ids:
                self.flush()
                return before
            self._look_at(ids)
            after = ids[-1]
            tell(len(ids))
            took = time.monotonic() - begun
            self._size = max(self._size // 2, 1) if took > SLOW else min(self._size * 2, MOST)
            if time.monotonic() >= until:
                self.flush()
                return after

    def _look_at(self, ids: list[int]) -> None:
        verdict = judge(ids, self.rules)
        self.untallied += verdict.untallied
        if self.dry_run:
            self.blanked += len(verdict.blank)
            self.messages += len(verdict.delete)
            self.transmissions += sum(verdict.delete.values())
            return
        for start in range(0, len(verdict.blank), erasing.CHUNK):
            some = verdict.blank[start : start + erasing.CHUNK]
            self.blanked += insist(partial(erasing.blank, some))
        self._pending |= verdict.delete
        if self.archive is None or sum(self._pending.values()) >= self.most:
            self.flush()

    def flush(self) -> None:
        """Delete what may go, after it is archived."""
        pending, self._pending = self._pending, {}
        if pending and self.archive is not None:
            self.archive.write(list(pending))
        for ids in erasing.divide(pending):
            number = sum(pending[pk] for pk in ids)
            messages, rows = insist(partial(erasing.delete, ids, number, self.rules))
            self.messages += messages
            self.transmissions += rows


def at_recovery(**_: object) -> None:
    """Prune for a bounded time; a receiver of the signal ``recovery_turn``."""
    settings = conf.retention()
    days = {period: settings[period] for period in PERIODS if period in settings}
    if days:
        take_turn(days, settings.get("archive"))


def take_turn(days: dict[str, int], archive: str | None = None, seconds: float = TURN) -> Pruning:
    """Go on where the last turn has stopped.

    :param days: by period.
    :param archive: the name of archives, if what is deleted is archived.
    :param seconds: how long to go on.
    """
    until, moment = time.monotonic() + seconds, now()
    pruning = Pruning(Rules(), Archive(archive) if archive else None, most=ARCHIVED_IN_A_TURN)
    for period in days:
        Sweep.objects.get_or_create(period=period, defaults={"begun": moment, "next_look": moment})
    for sweep in Sweep.objects.filter(period__in=days, next_look__lte=moment).order_by("next_look"):
        mine = Sweep.objects.filter(pk=sweep.pk, next_look=sweep.next_look)
        if time.monotonic() >= until or not mine.update(next_look=moment + LOST):
            continue
        if pruning.rules.latest is None:
            pruning.rules = Rules.of(days)
        before = pruning.rules.before(sweep.period)
        end = 0 if before is None else key_since(before, Message)
        sweep.last_id = pruning.sweep(sweep.last_id, end, until=until) if end else 0
        if sweep.last_id >= end:
            # the last one looked at: others may still get a key below its end
            sweep.last_id, sweep.next_look = max(end - 1, 0), moment + PAUSE
            if moment - sweep.begun > ANEW:
                sweep.last_id, sweep.begun = 0, moment
        else:
            sweep.next_look = moment
        sweep.save(update_fields=["last_id", "begun", "next_look"])
    if pruning.blanked or pruning.messages:
        counts = pruning.blanked, pruning.messages, pruning.transmissions
        logger.info("pruned blanked=%s messages=%s transmissions=%s", *counts)
    return pruning
