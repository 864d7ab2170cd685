"""The Celery tasks. A task says where to look; what is to be done there, the database says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Task, shared_task
from celery.result import AsyncResult
from rapidsms.models import Backend
from rapidsms.router import get_router

from rapidsms_db_router import bulk_actions, recovery, reports
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.connection import alias, contained
from rapidsms_db_router.db.transient import is_transient
from rapidsms_db_router.inbound.processing import process_inbound
from rapidsms_db_router.models import Message, status
from rapidsms_db_router.outbound import queue
from rapidsms_db_router.outbound.direct import send_now
from rapidsms_db_router.outbound.outbox import Outbox
from rapidsms_db_router.outbound.process import hand_over, process_sender
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.worker import routers
from rapidsms_db_router.worker.task import RouterTask

__all__ = (
    "receive_async",
    "record_delivery_reports",
    "recover_messages",
    "run_bulk_action",
    "send_transmissions",
)

logger = logging.getLogger(__name__)

#: No primary key is larger.
LARGEST_KEY = 2**63 - 1


class ReceiveTask(RouterTask):
    """A task with the arguments of RapidSMS's, whose ``fields`` the broker does not get."""

    abstract = True

    def apply_async(
        self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any
    ) -> AsyncResult:
        """Publish the task with empty ``fields``: those that are stored count."""
        args = (*args[:1], *({} for _ in args[1:2])) if args else args
        kwargs = {**kwargs, "fields": {}} if kwargs and "fields" in kwargs else kwargs
        return super().apply_async(args, kwargs, *more, **options)


@shared_task(base=ReceiveTask, bind=True)
def receive_async(self: Task, message_id: int, fields: dict[str, Any] | None) -> None:
    """Run the apps on a stored inbound message; store their replies, and have them sent.

    In a worker the sender of this process gets the replies.

    :param message_id: primary key of a :class:`~rapidsms_db_router.models.Message`. If it is
        gone or already processed the task ends quietly.
    :param fields: not read: the message has its ``fields`` from where it is stored.
    """
    in_worker = _in_worker(self)
    router = routers.router() if in_worker else get_router()
    outbox = Outbox(lambda: router, hand_over if in_worker else None)
    process_inbound(router, _key(message_id), outbox)


@shared_task(base=RouterTask, bind=True)
def send_transmissions(
    self: Task,
    backend_id: int,
    message_id: int,
    transmission_ids: Iterable[int],
) -> None:
    """Have a message sent to some of its recipients, all of one backend.

    In a worker the task is a doorbell: the sender of its process looks for batches of the backend,
    and the task ends at once. Called directly, or eagerly, it sends.

    :param backend_id: primary key of a :class:`rapidsms.models.Backend`.
    :param message_id: primary key of an outbound :class:`~rapidsms_db_router.models.Message`.
    :param transmission_ids: primary keys of :class:`~rapidsms_db_router.models.Transmission`.
        Those that are sent, or being sent, are not sent again.
    :raises rapidsms.errors.MessageSendingError: if the backend failed and the task was called
        directly, or was called eagerly and will not be tried again. In a worker the failure is
        stored and logged instead.
    """
    ids = [_key(each) for each in _items(transmission_ids)]
    message_id = _key(message_id)
    backend = Backend.objects.using(alias()).filter(pk=_key(backend_id)).first()
    if backend is None:
        # its connections and transmissions went with it
        named = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING)
        status.settle_unless_pending(list(named))
        return
    if _in_worker(self):
        if ids:
            queue.adopt(message_id, backend, ids)
        process_sender().wake(backend)
        return
    eager = self.request.is_eager
    batches = queue.isolate(message_id, backend, ids)
    error = send_now(get_router(), message_id, backend, batches, at_once=eager) if batches else None
    if error is not None:
        # Celery logs what it is from, too, in which there may be anything
        raise error from (None if eager else error.__cause__)


@shared_task(base=RouterTask)
def recover_messages() -> None:
    """Find lost work, and have it done, as every worker does by itself.

    For projects that want it on a schedule of their own.
    """
    recovery.recover()


@shared_task(base=RouterTask)
def run_bulk_action(action_id: int) -> None:
    """Go on with a bulk action for some seconds; another task does the rest.

    :param action_id: primary key of a :class:`~rapidsms_db_router.models.BulkAction`. If it has
        ended, or was stopped, the task ends quietly.
    """
    if bulk_actions.go_on(_key(action_id)):
        doorbells.publish_bulk_action(action_id)


@shared_task(base=RouterTask)
def record_delivery_reports(delivery_reports: Iterable[dict[str, Any]]) -> None:
    """Follow many delivery reports; for gateways whose reports come in floods.

    :param delivery_reports: the arguments of :func:`rapidsms_db_router.reports.record`, each as a
        dictionary; a ``date`` in ISO 8601. One that makes no sense is logged, and the others are
        followed.
    """
    for number, report in enumerate(_items(delivery_reports)):
        try:
            with contained():
                reports.record(**report)
        except Exception as exc:
            if is_transient(exc):
                raise  # the task comes again, with all of them
            logger.error("report_refused number=%s error=%s", number, type(exc).__name__)
            logger.debug("report_refused number=%s", number, exc_info=True)


def _in_worker(task: Task) -> bool:
    """Return whether a worker runs the task, and not a caller."""
    request = task.request
    return not (request.called_directly or request.is_eager or task.app.conf.task_always_eager)


def _key(said: Any) -> int:
    """Return the primary key that a task was given; 0, which no row has, for what is none."""
    text = str(said) if type(said) in (int, str) else ""
    is_key = text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_KEY))
    return int(text) if is_key and int(text) <= LARGEST_KEY else 0


def _items(said: Any) -> Iterable[Any]:
    """Return what a task was given, if it is a list or the like."""
    is_list = isinstance(said, Iterable) and not isinstance(said, (str, bytes, Mapping))
    return said if is_list else ()
