"""Doorbells: tasks that tell a worker where to look.

What there is to do is stored before a doorbell is published. If the broker cannot be reached, the
work is still in the database, and recovery publishes again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from celery import current_app
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.models import Message

logger = logging.getLogger(__name__)

RECEIVE = "rapidsms_db_router.tasks.receive_async"
SEND = "rapidsms_db_router.tasks.send_transmissions"
ACT = "rapidsms_db_router.tasks.run_bulk_action"


def is_eager() -> bool:
    """Return whether Celery runs tasks at once, in the process that publishes them."""
    return bool(current_app.conf.task_always_eager)


def publish_inbound(message: Message) -> bool:
    """Have a worker run the apps on an inbound message.

    :returns: ``False`` if the broker cannot be reached.
    """
    task = _task(RECEIVE)
    try:
        task.delay(message_id=message.pk, fields=message.fields)
    except Exception as exc:
        return _failed(f"message={message.pk}", exc)
    return True


def publish_all_inbound(ids: Collection[int]) -> None:
    """Have workers run the apps on inbound messages; recovery finds what the broker does not take.

    :param ids: primary keys.
    """
    for message in Message.objects.filter(pk__in=ids).order_by("pk"):
        if not publish_inbound(message):
            return


def publish_bulk_action(action_id: int) -> bool:
    """Have a worker go on with a bulk action.

    :returns: ``False`` if the broker cannot be reached.
    """
    try:
        _task(ACT).delay(action_id=action_id)
    except Exception as exc:
        return _failed(f"action={action_id}", exc)
    return True


def publish_outbound(backend: Backend, message_id: int, ids: Collection[int] = ()) -> bool:
    """Have a worker's sender look for batches of a backend.

    :param message_id: the message that waits.
    :param ids: transmissions of its first batch.
    :returns: ``False`` if the broker cannot be reached.
    """
    task = _task(SEND)
    where = {
        "backend_id": backend.pk,
        "message_id": message_id,
        "transmission_ids": list(ids),
    }
    try:
        if (queue := conf.queue(backend.name)) is not None:
            task.apply_async(kwargs=where, queue=queue)
        else:  # as projects' tests expect of RapidSMS's router
            task.delay(**where)
    except Exception as exc:
        return _failed(f"message={message_id}", exc)
    return True


def sends_elsewhere(backend_name: str) -> bool:
    """Return whether other workers send to a backend than those that receive."""
    if conf.queue(backend_name) is not None:
        return True
    return _routes_differ(current_app.amqp.router)


@lru_cache(maxsize=8)
def _routes_differ(router: Any) -> bool:
    """Return whether Celery's router has another queue for sending than for receiving."""
    return bool(router.route({}, RECEIVE) != router.route({}, SEND))


def _task(name: str) -> Any:
    # by name: the module of the tasks stands above this one
    return current_app.tasks[name]


def _failed(what: str, exc: Exception) -> bool:
    if is_eager():
        raise exc  # no broker was asked: this is what the task raised
    logger.error("publishing_failed %s error=%s", what, type(exc).__name__)
    logger.debug("publishing_failed %s", what, exc_info=exc)
    return False
