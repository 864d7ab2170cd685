"""Telling a worker that there is something to do, once what there is to do is stored.

The broker is a doorbell: if it cannot be rung, the work is still in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from celery import current_app
from django.db import transaction
from rapidsms.router import get_router

from rapidsms_db_router import conf, delivery
from rapidsms_db_router.choices import Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import alias
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.tasks import follow, publish, publish_inbound

logger = logging.getLogger(__name__)

#: Tells workers of a message.
Ring = Callable[[], None]

_waiting: ContextVar[list[Ring] | None] = ContextVar("_waiting", default=None)


def is_eager() -> bool:
    """Return whether Celery runs tasks at once, in the process that publishes them."""
    return bool(current_app.conf.task_always_eager)


def queue_inbound(dbm: Message) -> None:
    """Have the apps run on a stored inbound message, unless it was processed before."""
    if dbm.status == Status.QUEUED:
        _after_storing(dbm, lambda: _ring_inbound(dbm))


def plan(dbm: Message) -> list[Batch]:
    """Write down the batches of an outbound message; return those that workers are to know of."""
    return delivery.plan(dbm, at_once=is_eager())


def queue_outbound(dbm: Message, told: Sequence[Batch] | None = None) -> None:
    """Have workers told of batches of an outbound message: of all whose turn it is, by default."""
    if told is None:
        told = delivery.told_of(dbm)
    if told:
        _after_storing(dbm, lambda: _ring_outbound(dbm, told))


@contextmanager
def replies_together() -> Iterator[None]:
    """In eager mode, hold back what the body queues until the body has ended without error.

    Replies are stored in one transaction with the message they answer; none may be sent before
    all are stored.
    """
    waiting: list[Ring] = []
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
    for ring in waiting:
        ring()


def _after_storing(dbm: Message, ring: Ring) -> None:
    if not is_eager():
        transaction.on_commit(lambda: _never_failing(dbm, ring), using=alias())
    elif (waiting := _waiting.get()) is not None:
        waiting.append(ring)
    else:
        ring()


def _never_failing(dbm: Message, ring: Ring) -> None:
    """Ring; the message is stored, so that whoever stored it must not see this fail."""
    try:
        ring()
    except Exception as exc:
        logger.error("queueing_failed message=%s error=%s", dbm.pk, type(exc).__name__)
        logger.debug("queueing_failed message=%s", dbm.pk, exc_info=True)


def _ring_inbound(dbm: Message) -> None:
    backend = None
    if conf.has_eager_backend():
        names = dbm.transmissions.order_by("pk").values_list("connection__backend__name", flat=True)
        backend = names.first()
    if conf.is_eager(backend):
        delivery.process_inbound(get_router(), dbm.pk)
        return
    if not publish_inbound(dbm):
        Message.objects.filter(pk=dbm.pk, claim=None, status=Status.QUEUED).update(due=now())


def _ring_outbound(dbm: Message, told: Sequence[Batch]) -> None:
    # eager backends first: they need no broker
    in_order = sorted(told, key=lambda batch: not conf.is_eager(batch.backend.name))
    for batch in in_order:
        if conf.is_eager(batch.backend.name) and not is_eager():
            ended = delivery.send_batch(
                get_router(), batch.backend_id, dbm.pk, batch.transmission_ids
            )
            follow(ended)
        elif not publish(batch):
            dbm.batches.hurry()
            if batch is in_order[0]:
                _mark_queued(dbm)
            return


def _mark_queued(dbm: Message) -> None:
    """Move an outbound message from P back to Q: it is stored, and no worker knows of it."""
    if Message.objects.filter(pk=dbm.pk, status=Status.PROCESSING).update(status=Status.QUEUED):
        dbm.status = Status.QUEUED
