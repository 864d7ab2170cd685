"""The Celery tasks. A task says where to look; what is to be done there, the database says."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from celery import Celery, Task, current_app, shared_task
from celery.result import AsyncResult
from django.db import InterfaceError, OperationalError
from rapidsms.router import get_router

from rapidsms_db_router import celeryapp, conf, delivery, reports, retries, workers
from rapidsms_db_router.delivery import Ended
from rapidsms_db_router.gates import Later
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.transient import is_transient

if TYPE_CHECKING:
    from rapidsms_db_router.router import DatabaseRouter

__all__ = ("receive_async", "record_delivery_reports", "recover_messages", "send_transmissions")

logger = logging.getLogger(__name__)


class RouterTask(Task):
    """A task whose loss or repetition changes nothing but timing."""

    abstract = True
    ignore_result = True
    serializer = "json"
    # A task that was taken from the broker by a worker that died is handed out again; the
    # claims in the database make that harmless.
    acks_late = True
    reject_on_worker_lost = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; in a worker, with the connection to the database that it keeps.

        Should the database be away, the task comes again soon.
        """
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            with workers.connected():
                return self.run(*args, **kwargs)
        except (InterfaceError, OperationalError) as exc:
            if self.request.is_eager or not is_transient(exc):
                raise
            logger.warning("task_put_off task=%s error=%s", self.name, type(exc).__name__)
        # outside, since Celery logs what it is raised from, in which there may be anything
        wait = retries.delay(self.request.retries + 1, DATABASE_AWAY)
        raise self.retry(countdown=wait, max_retries=None)

    def apply_async(self, *args: Any, **options: Any) -> AsyncResult:
        """Publish the task, or fail soon: what it is about is stored, so nobody has to wait."""
        if self.app.conf.task_always_eager:
            return super().apply_async(*args, **options)
        # what is shown of a task, and in which there may be anything
        options.setdefault("kwargsrepr", "{...}")
        with celeryapp.producers(self.app).acquire(block=True, timeout=1) as producer:
            options = {"producer": producer, "retry_policy": PUBLISH_RETRY, **options}
            return super().apply_async(*args, **options)


#: When a task comes again that found no database, in seconds; each time twice as long.
DATABASE_AWAY = 1.0
#: One more try after a connection that the broker had closed in the meantime.
PUBLISH_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


@shared_task(base=RouterTask, bind=True)
def receive_async(self: Task, message_id: int, fields: dict[str, Any] | None) -> None:
    """Run the apps on a stored inbound message; store their replies, and send or queue them.

    What fits one call of a backend is sent here, so that no reply waits for a task of its own.

    :param message_id: primary key of a :class:`~rapidsms_db_router.models.Message`. If it is
        gone or already processed the task ends quietly.
    :param fields: the message's ``fields``; those stored with it come first.
    """
    eager = self.request.is_eager or self.app.conf.task_always_eager
    here = not eager and not _goes_elsewhere(self.app)
    router = _router(self)
    for ended in delivery.process_inbound(router, message_id, fields, send_replies=here):
        follow(ended)


@shared_task(base=RouterTask, bind=True)
def send_transmissions(
    self: Task,
    backend_id: int,
    message_id: int,
    transmission_ids: Iterable[int],
) -> None:
    """Send a message to some of its recipients, all of one backend; try failed ones again later.

    In a worker, other batches of the backend that wait for their turn follow, for a moment.

    :param backend_id: primary key of a :class:`rapidsms.models.Backend`.
    :param message_id: primary key of an outbound :class:`~rapidsms_db_router.models.Message`.
    :param transmission_ids: primary keys of :class:`~rapidsms_db_router.models.Transmission`.
        Those that are already sent, or being sent by another, are left alone.
    :raises rapidsms.errors.MessageSendingError: if the backend failed and the task was called
        directly, or was called eagerly and will not be tried again. In a worker the failure is
        stored and logged instead.
    """
    router, ids, eager = _router(self), list(transmission_ids), self.request.is_eager
    if not (self.request.called_directly or eager):
        for ended in delivery.send_batches(router, backend_id, message_id, ids):
            follow(ended)
        return
    ended = delivery.send_batch(router, backend_id, message_id, ids, retry_at_once=eager)
    while eager and ended.retry is not None:
        # here and now: Celery's own retry would raise Retry out of the caller's send()
        ids = ended.retry.transmission_ids
        ended = delivery.send_batch(router, backend_id, message_id, ids, retry_at_once=True)
    ring(ended.next)
    ring_later(ended.later)
    if ended.error is not None:
        # Celery logs what it is from, too, in which there may be anything
        raise ended.error from (None if eager else ended.error.__cause__)


def follow(ended: Ended) -> None:
    """Have done what the end of a batch leaves to be done."""
    ring(ended.next)
    ring_later(ended.later)
    if ended.retry is not None:
        publish(ended.retry, ended.retry_in)


def ring_later(batches: Iterable[Later]) -> None:
    """Tell workers of batches whose turn it is now, or in some time."""
    for batch, seconds in batches:
        if not publish(batch, seconds or None) and not seconds:
            Batch.objects.filter(pk=batch.pk).hurry()


def ring(batches: Iterable[Batch]) -> None:
    """Tell workers of batches whose turn it is."""
    for batch in batches:
        if not publish(batch):
            Batch.objects.filter(pk=batch.pk).hurry()


def _router(task: Task) -> DatabaseRouter:
    """Return a router: in a worker the one of this thread, else a new one, as RapidSMS does."""
    in_worker = not (task.request.called_directly or task.request.is_eager)
    return workers.router() if in_worker else get_router()


def _goes_elsewhere(app: Celery) -> bool:
    """Return whether the project routes the sending to another queue than the receiving."""
    routed = app.amqp.router.route
    return bool(routed({}, receive_async.name) != routed({}, send_transmissions.name))


@shared_task(base=RouterTask)
def recover_messages() -> None:
    """Find lost work, and have it done, as every worker does by itself.

    For those who want it on a schedule of their own.
    """
    from rapidsms_db_router import recovery  # it publishes the tasks of this module

    recovery.recover()


@shared_task(base=RouterTask)
def record_delivery_reports(delivery_reports: Iterable[dict[str, Any]]) -> None:
    """Follow many delivery reports; for gateways whose reports come in floods.

    :param delivery_reports: the arguments of :func:`rapidsms_db_router.reports.record`, each as a
        dictionary; a ``date`` in ISO 8601. One that makes no sense is logged, and no more.
    """
    for number, report in enumerate(delivery_reports):
        try:
            date = report.get("date")
            if isinstance(date, str):
                date = datetime.datetime.fromisoformat(date)
            reports.record(**{**report, "date": date})
        except (AttributeError, TypeError, ValueError) as exc:
            logger.error("report_refused number=%s error=%s", number, type(exc).__name__)
            logger.debug("report_refused number=%s", number, exc_info=True)


def publish(batch: Batch, countdown: float | None = None) -> bool:
    """Tell a worker of a batch; return ``False`` if the broker cannot be reached.

    :param countdown: seconds the worker is to wait. If those are too many no worker is told:
        recovery will do it.
    """
    if countdown is not None and countdown > retries.LONGEST_COUNTDOWN:
        return True
    where, options = _where(batch), _options(batch)
    if countdown is not None:
        options["countdown"] = countdown
    if not options:  # as projects' tests expect of RapidSMS's router
        return _publish(batch.message_id, lambda: send_transmissions.delay(**where))
    return _publish(
        batch.message_id, lambda: send_transmissions.apply_async(kwargs=where, **options)
    )


def publish_inbound(dbm: Message) -> bool:
    """Tell a worker of an inbound message; return ``False`` if the broker cannot be reached."""
    return _publish(dbm.pk, lambda: receive_async.delay(message_id=dbm.pk, fields=dbm.fields))


def _publish(message_id: int, call: Callable[[], AsyncResult]) -> bool:
    try:
        call()
    except Exception as exc:
        if current_app.conf.task_always_eager:
            raise  # no broker was asked: this is what the task raised
        logger.error("queueing_failed message=%s error=%s", message_id, type(exc).__name__)
        logger.debug("queueing_failed message=%s", message_id, exc_info=True)
        return False
    return True


def _where(batch: Batch) -> dict[str, Any]:
    return {
        "backend_id": batch.backend_id,
        "message_id": batch.message_id,
        "transmission_ids": batch.transmission_ids,
    }


def _options(batch: Batch) -> dict[str, Any]:
    queue = conf.queue(batch.backend.name)
    return {"queue": queue} if queue else {}
