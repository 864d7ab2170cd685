"""Telling a worker that there is something to do, once what there is to do is stored.

The broker is a doorbell: if it cannot be rung, the work is still in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from celery import current_app
from django.db import transaction
from rapidsms.router import get_router

from rapidsms_db_router import conf, delivery
from rapidsms_db_router.choices import Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.models import Message
from rapidsms_db_router.tasks import publish, publish_inbound

logger = logging.getLogger(__name__)

Ring = Callable[[Message], None]

_waiting: ContextVar[list[tuple[Ring, Message]] | None] = ContextVar("_waiting", default=None)


def is_eager() -> bool:
    """Return whether Celery runs tasks at once, in the process that publishes them."""
    return bool(current_app.conf.task_always_eager)


def queue_inbound(dbm: Message) -> None:
    """Have the apps run on a stored inbound message, unless it was processed before."""
    if dbm.status == Status.QUEUED:
        _after_storing(_ring_inbound, dbm)


def plan(dbm: Message) -> None:
    """Write down the batches of an outbound message that has just been stored."""
    rows = dbm.transmissions.filter(status=Status.QUEUED)
    delivery.plan(dbm, rows.groups(), at_once=is_eager())


def queue_outbound(dbm: Message) -> None:
    """Have workers told of the batches of an outbound message whose turn it is."""
    if dbm.due is not None:
        _after_storing(_ring_outbound, dbm)


@contextmanager
def replies_together() -> Iterator[None]:
    """In eager mode, hold back what the body queues until the body has ended without error.

    Replies are stored in one transaction with the message they answer; none may be sent before
    all are stored.
    """
    waiting: list[tuple[Ring, Message]] = []
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)
    for ring, dbm in waiting:
        ring(dbm)


def _after_storing(ring: Ring, dbm: Message) -> None:
    if not is_eager():
        transaction.on_commit(lambda: _never_failing(ring, dbm), using=delivery.alias())
    elif (waiting := _waiting.get()) is not None:
        waiting.append((ring, dbm))
    else:
        ring(dbm)


def _never_failing(ring: Ring, dbm: Message) -> None:
    """Ring; the message is stored, so that whoever stored it must not see this fail."""
    try:
        ring(dbm)
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


def _ring_outbound(dbm: Message) -> None:
    if is_eager():
        _mark_processing(dbm)  # before the tasks, which run here and now
    told = list(dbm.batches.told().select_related("backend").order_by("pk"))
    # eager backends first: they need no broker
    told.sort(key=lambda batch: not conf.is_eager(batch.backend.name))
    for batch in told:
        if conf.is_eager(batch.backend.name) and not is_eager():
            ended = delivery.send_batch(
                get_router(), batch.backend_id, dbm.pk, batch.transmission_ids
            )
            if ended.retry is not None:
                publish(ended.retry, ended.retry_in)
        elif not publish(batch):
            dbm.batches.hurry()
            return
    if not is_eager():
        _mark_processing(dbm)


def _mark_processing(dbm: Message) -> None:
    """Move an outbound message from Q to P, unless a worker has brought it further already."""
    if Message.objects.filter(pk=dbm.pk, status=Status.QUEUED).update(status=Status.PROCESSING):
        dbm.status = Status.PROCESSING
