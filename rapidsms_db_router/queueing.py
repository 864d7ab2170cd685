"""Telling a worker that there is something to do, once what there is to do is stored.

The broker is a doorbell: if it cannot be rung, the work is still in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import current_app
from django.db import transaction
from rapidsms.router import get_router

from rapidsms_db_router import conf, delivery
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message
from rapidsms_db_router.tasks import receive_async, send_transmissions

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


def queue_outbound(dbm: Message) -> None:
    """Have what is Q of a stored outbound message sent."""
    if dbm.status != Status.ERRORED or dbm.transmissions.exists():
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
    else:
        receive_async.delay(message_id=dbm.pk, fields=dbm.fields)


def _ring_outbound(dbm: Message) -> None:
    if is_eager():
        _mark_processing(dbm)  # before the tasks, which run here and now
    batches = dbm.transmissions.filter(status=Status.QUEUED).batches()
    # eager backends first: they need no broker
    for batch in sorted(batches, key=lambda batch: not conf.is_eager(batch.backend_name)):
        where: dict[str, Any] = {"backend_id": batch.backend_id, "message_id": dbm.pk}
        if conf.is_eager(batch.backend_name) and not is_eager():
            failure = delivery.send_batch(get_router(), ids=batch.ids, **where)
            if failure and failure.retry_ids:
                send_transmissions.apply_async(
                    kwargs={**where, "transmission_ids": failure.retry_ids},
                    countdown=failure.retry_in,
                )
        else:
            send_transmissions.delay(**where, transmission_ids=batch.ids)
    if not is_eager():
        _mark_processing(dbm)


def _mark_processing(dbm: Message) -> None:
    """Move an outbound message from Q to P, unless a worker has brought it further already."""
    if Message.objects.filter(pk=dbm.pk, status=Status.QUEUED).update(status=Status.PROCESSING):
        dbm.status = Status.PROCESSING
