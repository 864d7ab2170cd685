"""What a worker does by itself: it finds what was lost and has it done.

Everything unfinished has a date on which it is due (:attr:`Message.due`, :attr:`Batch.due`).
Whoever works on it puts that date off; so what is past its date nobody works on. Each move is a
compare-and-set on that date, so that two recoveries at the same time do no harm.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from celery import bootsteps
from django.db import connections, transaction
from django.db.models import F, QuerySet
from rapidsms.models import Backend

from rapidsms_db_router import conf, delivery, gates, queueing, tasks
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import alias
from rapidsms_db_router.models import Batch, Message, RecoveryTurn, Transmission
from rapidsms_db_router.querysets import lease

logger = logging.getLogger(__name__)

#: How many inbound messages, and how many batches, recovery has called for at a time: a queue
#: that is slow, not lost, must not fill with calls.
MOST = 100
#: No queue is so slow that it is reminded less often than this, in seconds.
LONGEST_PATIENCE = 3600.0
#: The error of what may have been sent, and is not to be sent twice.
OUTCOME_UNKNOWN = "outcome unknown: the worker died while the gateway was being called"


class BrokerDown(Exception):
    """No worker can be told of anything."""


@dataclass
class Found:
    """What one recovery found."""

    #: Inbound messages nobody has processed.
    inbound: int = 0
    #: Batches nobody has sent.
    batches: int = 0
    #: Transmissions of dead workers that will be sent again.
    resent: int = 0
    #: Transmissions of dead workers that were given up.
    given_up: int = 0
    #: Outbound messages whose status, or whose plan, did not fit their transmissions.
    statuses: int = 0
    #: Whether there may be more.
    more: bool = False

    def add(self, lost: int, resend: bool) -> None:
        """Count transmissions of a dead worker."""
        if resend:
            self.resent += lost
        else:
            self.given_up += lost

    def counts(self) -> dict[str, int]:
        """Return how many of each kind, by name."""
        return {
            "inbound": self.inbound,
            "batches": self.batches,
            "resent": self.resent,
            "given_up": self.given_up,
            "statuses": self.statuses,
        }


def recover(*, dry_run: bool = False) -> Found:
    """Find lost work, and have it done.

    Where the broker cannot be reached it stops, and all is as overdue as it was.

    :param dry_run: only count.
    """
    found = Found()
    try:
        batches = list(Batch.objects.overdue().select_related("backend")[:MOST])
        for batch in batches[: _room(batches, Batch.objects.called_again())]:
            _recover_batch(batch, found, dry_run)
        messages = list(Message.objects.overdue()[:MOST])
        inbound = [dbm for dbm in messages if dbm.direction == Direction.INCOMING]
        for dbm in inbound[: _room(inbound, Message.objects.called_again())]:
            _recover_inbound(dbm, found, dry_run)
        for dbm in messages:
            if dbm.direction == Direction.OUTGOING:
                _recover_status(dbm, found, dry_run)
        found.more = MOST in (len(batches), len(messages))
    except BrokerDown:
        logger.warning("recovery_stopped error=%s", BrokerDown.__name__)
    if any(found.counts().values()) and not dry_run:
        counts = " ".join(f"{name}={count}" for name, count in found.counts().items())
        logger.warning("recovered %s", counts)
    return found


def _room(overdue: list[Any], called_again: QuerySet[Any]) -> int:
    """Return how many may be called for, beside those that nobody has taken yet."""
    return MOST - called_again[:MOST].count() if overdue else MOST


def _patience(calls: int) -> datetime.datetime:
    """Return when to call again, after so many calls."""
    seconds = min(conf.visibility_timeout() * 2.0 ** min(calls, 20), LONGEST_PATIENCE)
    return now() + datetime.timedelta(seconds=max(seconds, conf.visibility_timeout()))


def _recover_batch(batch: Batch, found: Found, dry_run: bool) -> None:
    resend = conf.after_crash(batch.backend.name) == conf.RESEND
    lost = 0
    if dry_run:
        if batch.claim is not None:
            lost = Transmission.objects.held(batch.claim, batch.transmission_ids).count()
    else:
        with transaction.atomic(using=alias()):
            mine = Batch.objects.filter(pk=batch.pk, claim=batch.claim, due=batch.due)
            if not mine.update(
                claim=None, due=_patience(batch.calls), called=now(), calls=F("calls") + 1
            ):
                return
            if batch.claim is not None:
                lost = _let_go(batch.claim, batch.transmission_ids, resend)
        if lost and not resend:
            _tell_unknown(batch.message_id, batch.backend_id, lost)
            batch.message.set_status()
        if not tasks.publish(batch):
            told = Batch.objects.filter(pk=batch.pk).told()
            told.update(due=batch.due, calls=batch.calls)
            raise BrokerDown
    found.batches += 1
    found.add(lost, resend)


def _let_go(claim: uuid.UUID | None, ids: list[int], resend: bool) -> int:
    if resend:
        return Transmission.objects.release(claim, ids)
    return Transmission.objects.finish_errored(claim, ids, OUTCOME_UNKNOWN, None)


def _tell_unknown(message_id: int, backend_id: int, rows: int) -> None:
    logger.error("outcome_unknown message=%s backend=%s rows=%s", message_id, backend_id, rows)


def _recover_inbound(dbm: Message, found: Found, dry_run: bool) -> None:
    if not dry_run:
        mine = Message.objects.filter(pk=dbm.pk, claim=dbm.claim, due=dbm.due)
        if not mine.update(claim=None, due=_patience(dbm.calls), calls=F("calls") + 1):
            return
        if not tasks.publish_inbound(dbm):
            waiting = Message.objects.filter(pk=dbm.pk, claim=None, status=Status.QUEUED)
            waiting.update(due=dbm.due, calls=dbm.calls)
            raise BrokerDown
    found.inbound += 1


def _recover_status(dbm: Message, found: Found, dry_run: bool) -> None:
    """Look after an outbound message; its batches have dates of their own."""
    mine = Message.objects.filter(pk=dbm.pk, due=dbm.due, claim=dbm.claim)
    if dbm.claim is not None:
        _recover_reply(dbm, mine, found, dry_run)
        return
    if delivery.has_expired(dbm) and not dry_run:
        delivery.forget(dbm, delivery.EXPIRED)
        mine.update(due=lease())  # unless that has ended it
        return
    if dbm.batches.exists():
        if not dry_run and mine.update(due=_next_look(dbm)):
            _give_turns(dbm, found)
        return
    unplanned = dbm.transmissions.filter(status=Status.QUEUED)
    if unplanned.exists():
        found.statuses += 1
        if not dry_run:
            with transaction.atomic(using=alias()):
                told = []
                # a message that was held is on its way from now on
                if mine.update(status=Status.PROCESSING, due=_next_look(dbm), updated=now()):
                    dbm.status, dbm.due = Status.PROCESSING, lease()
                    told = queueing.plan(dbm)
            queueing.queue_outbound(dbm, told)
        return
    found.statuses += dbm.status != dbm.status_now()
    if not dry_run:
        dbm.set_status()
        mine.update(due=lease())  # unless that has ended it


def _next_look(dbm: Message) -> datetime.datetime:
    """Return when an outbound message is to be looked at again: no later than it expires."""
    usual = lease()
    return usual if dbm.expires_at is None else min(usual, dbm.expires_at)


def _recover_reply(dbm: Message, mine: QuerySet[Message], found: Found, dry_run: bool) -> None:
    """Look after a reply that the task that stored it was to send."""
    rows = list(dbm.transmissions.select_related("connection__backend"))
    # all of one backend, unless they are gone with their connections
    backend = rows[0].connection.backend if rows else None
    resend = backend is None or conf.after_crash(backend.name) == conf.RESEND
    ids = [row.pk for row in rows]
    if dry_run:
        lost = Transmission.objects.held(dbm.claim, ids).count()
    else:
        with transaction.atomic(using=alias()):
            if not mine.update(claim=None, due=lease(), updated=now()):
                return
            lost = _let_go(dbm.claim, ids, resend)
            told = queueing.plan(dbm) if resend else []
            dbm.set_status()
        queueing.queue_outbound(dbm, told)
        if lost and backend is not None and not resend:
            _tell_unknown(dbm.pk, backend.pk, lost)
    found.add(lost, resend)


def _give_turns(dbm: Message, found: Found) -> None:
    """Have the batches to each backend go on where there is none left that gives a turn."""
    waiting = dbm.batches.filter(due__isnull=True)
    backends = Backend.objects.select_related("router_state")
    for backend in backends.filter(pk__in=waiting.values("backend")):
        if not gates.is_free(backend):
            later = gates.give_turns(backend)
            found.batches += len(later)
            tasks.ring_later(later)
            continue
        line = dbm.batches.filter(backend=backend).order_by("first_id")
        if line.filter(due__isnull=False, gave_turn=False).exists():
            continue
        given = line.select_related("backend").give_turns(delivery.WINDOW)
        found.batches += len(given)
        tasks.ring(given)


class RecoveryStep(bootsteps.StartStopStep):
    """Runs :func:`recover` in a thread of every worker, in one of many at a time."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="rapidsms_db_router-recovery", daemon=True
        )

    def start(self, parent: Any) -> None:
        """Begin to look, soon after the worker has started."""
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """Begin no other look, and wait for the one under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        pause = min(1.0, conf.recovery_interval())
        while not self._stopping.wait(pause):
            pause = conf.recovery_interval()
            try:
                if RecoveryTurn.objects.take():
                    while recover().more and self._has_room():
                        pass
            except Exception as exc:  # the database may be back for the next look
                logger.error("recovery_failed error=%s", type(exc).__name__)
                logger.debug("recovery_failed", exc_info=True)
            finally:
                connections.close_all()

    def _has_room(self) -> bool:
        """Wait until most of what was called for is taken; return whether it soon was.

        Then it was the calls that had been lost, and there may be more of them.
        """
        deadline = time.monotonic() + conf.visibility_timeout()
        pause = min(conf.recovery_interval() / 10, 1.0)
        while time.monotonic() < deadline and not self._stopping.wait(pause):
            called = Batch.objects.called_again(), Message.objects.called_again()
            if all(each[:MOST].count() <= MOST / 2 for each in called):
                return True
        return False
