"""What the old router has not finished: held here until an operator says what becomes of it."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from django.db import transaction

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, rows_of, table
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Message, Transmission, status
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.moving_in import mapping
from rapidsms_db_router.outbound import outbox
from rapidsms_db_router.outbound.failure import OUTCOME_UNKNOWN
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.storage import batches

logger = logging.getLogger(__name__)

#: Why a transmission is E that the old router has not sent, or processed.
LEFT_BEHIND = "not finished by rapidsms.router.db"
#: Messages whose doorbells are published together.
CHUNK = 500


def held(size: int = CHUNK) -> Iterator[list[int]]:
    """Yield the messages with transmissions that are held: primary keys, in order."""
    after = 0
    while True:
        # by the old table's index of statuses: what is held was Q or P there
        found = rows_of(
            "SELECT DISTINCT o.message_id FROM db_transmission o"
            f" JOIN {table(Transmission)} n ON n.id = o.id"
            f" JOIN {table(Message)} m ON m.id = n.message_id"
            f" WHERE o.status IN ({mapping.UNFINISHED}) AND o.message_id > %(after)s"
            f" AND n.status = '{Status.QUEUED}' AND m.recover_at IS NULL"
            f" ORDER BY o.message_id LIMIT {size}",
            after=after,
        )
        if not found:
            return
        ids = [pk for (pk,) in found]
        yield ids
        after = ids[-1]


def count() -> int:
    """Return how many messages are held."""
    return sum(map(len, held()))


def send(since: datetime.datetime, tell: Callable[[int], None]) -> Counter[str]:
    """Have what is held sent, or processed if it is inbound.

    :param since: what was stored before is given up: nobody wants an SMS of last year.
    :param tell: is told of how many messages.
    :returns: how many transmissions are ``queued`` now, and how many ``given up``.
    """
    return _settle(partial(_send, since=since), tell)


def mark(tell: Callable[[int], None]) -> Counter[str]:
    """Give up what is held: it becomes E. Like :func:`send`."""
    return _settle(_mark, tell)


def _settle(decide: Callable[[Message], Counter[str]], tell: Callable[[int], None]) -> Counter[str]:
    done: Counter[str] = Counter()
    for ids in held():
        outbound: list[int] = []
        inbound: list[int] = []
        for pk in ids:
            message = Message.objects.filter(pk=pk).first()
            if message is None:
                continue
            said = insist(partial(_decide, message, decide))
            done += said
            if said["queued"]:
                (inbound if message.direction == Direction.INCOMING else outbound).append(pk)
        # stored before: if the broker is away, recovery publishes
        outbox.send(outbound)
        doorbells.publish_all_inbound(inbound)
        tell(len(ids))
    logger.info("unfinished_settled queued=%s given_up=%s", done["queued"], done["given up"])
    return done


def _decide(message: Message, decide: Callable[[Message], Counter[str]]) -> Counter[str]:
    with transaction.atomic(using=alias()):
        # a lock, too: of two commands at the same time one finds nothing that is held
        mine = Message.objects.filter(pk=message.pk, recover_at=None, claim_token=None)
        if not mine.update(recover_at=lease()):
            return Counter()
        done = decide(message)
        status.settle_locked([message], now())
        if message.direction == Direction.INCOMING and message.status == Status.ERRORED:
            Message.objects.filter(pk=message.pk, error="").update(error=LEFT_BEHIND)
    return done


def _mark(message: Message) -> Counter[str]:
    rows = Transmission.objects.filter(message=message, status=Status.QUEUED)
    return Counter({"given up": rows.discard(LEFT_BEHIND, now())})


def _send(message: Message, since: datetime.datetime) -> Counter[str]:
    if message.date < since:
        return _mark(message)
    rows = Transmission.objects.filter(message=message, status=Status.QUEUED)
    given_up = 0
    if message.direction == Direction.OUTGOING:
        given_up = sum(
            rows.filter(pk__in=ids).discard(OUTCOME_UNKNOWN, now()) for ids in _uncertain(message)
        )
    queued = rows.count()
    if queued and message.direction == Direction.OUTGOING:
        batches.cut(message)
    return Counter({"queued": queued, "given up": given_up})


def _uncertain(message: Message) -> Iterator[list[int]]:
    """Yield what was being sent through backends that are to send nothing twice."""
    rows = Transmission.objects.filter(message=message, status=Status.QUEUED, attempts__gt=0)
    names = rows.values_list("connection__backend__name", flat=True)
    for name in set(names.order_by()):
        if conf.after_crash(name) == conf.ERROR:
            of_backend = rows.filter(connection__backend__name=name)
            yield list(of_backend.values_list("pk", flat=True))
