"""Finding lost work, and having it done."""

from __future__ import annotations

import datetime
import logging
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Min, QuerySet
from rapidsms.models import Backend

from rapidsms_db_router import conf, reports
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import (
    BackendState,
    Batch,
    BulkAction,
    Message,
    Transmission,
    status,
)
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.models.message import has_expired
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound.failure import OUTCOME_UNKNOWN
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.storage import batches as storage

logger = logging.getLogger(__name__)

#: Inbound messages that recovery has published and no worker has claimed yet, at the most: a queue
#: that is slow, not lost, must not fill with copies.
MOST = 100
#: A batch that has been claimable for this long has lost its doorbell, in seconds.
GRACE = 1.0
#: The error of a transmission that was in flight when its worker died, in its last try.
WORKER_DIED = "worker died in the last try"
#: An inbound message is published again no more seldom than this, in seconds.
LONGEST_PATIENCE = 3600.0


class BrokerDown(Exception):
    """Nothing can be published."""


@dataclass
class Found:
    """What one look of recovery has found."""

    #: Inbound messages that no worker has processed.
    inbound: int = 0
    #: Batches whose sender was lost, and backends whose doorbell was lost.
    batches: int = 0
    #: Transmissions in flight of lost senders that will be sent again.
    resent: int = 0
    #: Transmissions in flight of lost senders that were given up.
    given_up: int = 0
    #: Outbound messages whose status, or whose batches, did not fit their transmissions.
    statuses: int = 0
    #: Bulk actions whose task was lost.
    bulk_actions: int = 0
    #: Whether there may be more.
    more: bool = False

    def counts(self) -> dict[str, int]:
        """Return how many of each kind, by name."""
        return {name: count for name, count in asdict(self).items() if name != "more"}


def recover(*, dry_run: bool = False) -> Found:
    """Find lost work, and have it done; delete delivery reports that have waited in vain.

    It looks at no more than :data:`MOST` of each kind, and where the broker cannot be reached it
    stops; the next look finds the rest.

    :param dry_run: only count, and all there is.
    """
    most = None if dry_run else MOST
    found, rung = Found(), 0
    try:
        lost = Batch.objects.lost().select_related("backend")[:most]
        for batch in lost:
            _rescue_batch(batch, found, dry_run)
        # apart: of many inbound messages each waits its turn, and no outbound one waits behind them
        outbound = Message.objects.overdue(Direction.OUTGOING)[:most]
        for message in outbound:
            _look_at_outbound(message, found, dry_run)
        rung = ring(dry_run=dry_run)
        found.batches += rung
        inbound = list(Message.objects.overdue(Direction.INCOMING)[:most])
        for message in inbound if dry_run else inbound[: _room(inbound)]:
            _rescue_inbound(message, found, dry_run)
        for action in BulkAction.objects.stalled()[:most]:
            _rescue_action(action, found, dry_run)
        found.more = MOST in (len(lost), len(outbound), len(inbound))
    except BrokerDown:
        logger.warning("recovery_stopped error=%s", BrokerDown.__name__)
    if not dry_run:
        reports.expire()
    if any(found.counts().values()) and not dry_run:
        counts = " ".join(f"{name}={count}" for name, count in found.counts().items())
        # batches that wait are no sign that anything was lost: a broadcast is under way
        was_lost = sum(found.counts().values()) > rung
        logger.log(logging.WARNING if was_lost else logging.INFO, "recovered %s", counts)
    return found


def next_ready() -> datetime.datetime | None:
    """Return when the next batch that waits for its date becomes claimable."""
    waiting = Batch.objects.filter(claim_token=None, ready_at__gt=now(), paused=False)
    moment: datetime.datetime | None = waiting.aggregate(first=Min("ready_at"))["first"]
    return moment


# Batches


def _rescue_batch(batch: Batch, found: Found, dry_run: bool) -> None:
    """Release a batch of a lost sender; decide about what was in flight."""
    resend = conf.after_crash(batch.backend.name) == conf.RESEND
    rows = Transmission.objects.filter(pk__in=batch.transmission_ids, status=Status.PROCESSING)
    found.batches += 1
    if dry_run:
        in_flight = rows.count()
        found.resent += in_flight * resend
        found.given_up += in_flight * (not resend)
        return
    most, moment = conf.max_retries(batch.backend.name), now()
    reason = WORKER_DIED if resend else OUTCOME_UNKNOWN
    with transaction.atomic(using=alias()):
        # locked by its key alone: MariaDB would lock the index of the dates first, its sender last
        Batch.objects.filter(pk=batch.pk).update(whole=False)
        claimed = Batch.objects.filter(pk=batch.pk, claim_token=batch.claim_token)
        # a lease that was renewed meanwhile counts
        if not claimed.filter(recover_at=batch.recover_at).update(
            claim_token=None, recover_at=None, whole=False
        ):
            return
        lost = rows.filter(attempts__gt=most) if resend else rows
        given_up = lost.update(status=Status.ERRORED, error=reason, next_try=None, updated=moment)
        resent = rows.update(status=Status.QUEUED, updated=now())
    found.resent += resent
    found.given_up += given_up
    if given_up:
        ids = batch.message_id, batch.backend_id, given_up
        logger.error("outcome_unknown message=%s backend=%s rows=%s", *ids)
        status.settle(batch.message)
        mine = Transmission.objects.filter(pk__in=batch.transmission_ids)
        mine = mine.filter(status=Status.ERRORED, error=reason, updated=moment)
        discarding.announce(mine, {batch.message_id: batch.message})


def ring(*, dry_run: bool = False) -> int:
    """Publish a doorbell for each backend with batches that nobody has claimed in time.

    :returns: for how many backends.
    :raises BrokerDown: if the broker cannot be reached.
    """
    since = now() - datetime.timedelta(seconds=GRACE)
    waiting = Batch.objects.filter(claim_token=None, ready_at__lte=since, paused=False)
    ids = waiting.order_by().values("backend").distinct()
    backends = Backend.objects.using(alias()).filter(pk__in=ids)
    count = 0
    paused = BackendState.objects.paused().values("backend")
    for backend in backends.exclude(pk__in=paused):
        if not dry_run and not _publish(backend, waiting.filter(backend=backend)):
            raise BrokerDown
        count += 1
    return count


def _publish(backend: Backend, waiting: QuerySet[Batch]) -> bool:
    """Publish a doorbell; in eager mode, where no worker hears it, have each batch sent here."""
    if not doorbells.is_eager():
        return doorbells.publish_outbound(backend, message_id=0)
    for batch in list(waiting.order_by("position", "pk")):
        doorbells.publish_outbound(backend, batch.message_id, batch.transmission_ids)
    return True


# Messages


def _look_at_outbound(message: Message, found: Found, dry_run: bool) -> None:
    """Look after an outbound message; its batches have dates of their own."""
    overdue = Message.objects.filter(pk=message.pk, recover_at=message.recover_at)
    if has_expired(message):
        if not dry_run:
            discarding.discard(message, discarding.EXPIRED)
            overdue.update(recover_at=lease())  # unless that has ended it
        return
    if message.batches.exists():
        if not dry_run:
            overdue.update(recover_at=_next_look(message))
        return
    if not dry_run and discarding.discard_unconnected(message):
        status.settle(message)
    if message.transmissions.filter(status=Status.QUEUED).exists():
        found.statuses += 1
        if not dry_run:
            with transaction.atomic(using=alias()):
                if overdue.update(
                    status=Status.PROCESSING, recover_at=_next_look(message), updated=now()
                ):
                    storage.cut(message)
        return
    found.statuses += message.status != status.current(message)
    if not dry_run:
        status.settle(message)
        overdue.update(recover_at=lease())  # unless that has ended it


def _next_look(message: Message) -> datetime.datetime:
    """Return when an outbound message is to be looked at again: no later than it expires."""
    usual = lease()
    return usual if message.expires_at is None else min(usual, message.expires_at)


def _room(overdue: list[Any]) -> int:
    """Return how many inbound messages may be published, beside those not claimed yet."""
    return MOST - Message.objects.republished()[:MOST].count() if overdue else 0


def _rescue_inbound(message: Message, found: Found, dry_run: bool) -> None:
    found.inbound += 1
    if dry_run:
        return
    overdue = Message.objects.filter(
        pk=message.pk, claim_token=message.claim_token, recover_at=message.recover_at
    )
    patience = _patience(message.publishes)
    if not overdue.update(claim_token=None, recover_at=patience, publishes=F("publishes") + 1):
        return
    if not doorbells.publish_inbound(message):
        waiting = Message.objects.filter(pk=message.pk, claim_token=None, status=Status.QUEUED)
        waiting.update(recover_at=message.recover_at, publishes=message.publishes)
        raise BrokerDown


def _rescue_action(action: BulkAction, found: Found, dry_run: bool) -> None:
    found.bulk_actions += 1
    if not dry_run and not doorbells.publish_bulk_action(action.pk):
        raise BrokerDown


def _patience(publishes: int) -> datetime.datetime:
    """Return when to publish again, after so many times."""
    seconds = min(conf.visibility_timeout() * 2.0 ** min(publishes, 20), LONGEST_PATIENCE)
    return now() + datetime.timedelta(seconds=max(seconds, conf.visibility_timeout()))
