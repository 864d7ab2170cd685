"""The Celery tasks. A task says where to look; what is to be done there, the database says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import Task, shared_task
from celery.result import AsyncResult
from rapidsms.router import get_router

from rapidsms_db_router import celeryapp, delivery

__all__ = ("receive_async", "send_transmissions")


class RouterTask(Task):
    """A task whose loss or repetition changes nothing but timing."""

    abstract = True
    ignore_result = True
    serializer = "json"
    # A task that was taken from the broker by a worker that died is handed out again; the
    # claims in the database make that harmless.
    acks_late = True
    reject_on_worker_lost = True
    # how often to try again is decided by delivery, for each transmission
    max_retries = None

    def apply_async(self, *args: Any, **options: Any) -> AsyncResult:
        """Publish the task, or fail soon: what it is about is stored, so nobody has to wait."""
        if self.app.conf.task_always_eager:
            return super().apply_async(*args, **options)
        with celeryapp.producers(self.app).acquire(block=True, timeout=1) as producer:
            options = {"producer": producer, "retry_policy": PUBLISH_RETRY, **options}
            return super().apply_async(*args, **options)


#: One more try after a connection that the broker had closed in the meantime.
PUBLISH_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


@shared_task(base=RouterTask)
def receive_async(message_id: int, fields: dict[str, Any] | None) -> None:
    """Run the apps on a stored inbound message, and store and queue their replies.

    :param message_id: primary key of a :class:`~rapidsms_db_router.models.Message`. If it is
        gone or already processed the task ends quietly.
    :param fields: the message's ``fields``; those stored with it come first.
    """
    delivery.process_inbound(get_router(), message_id, fields)


@shared_task(base=RouterTask, bind=True)
def send_transmissions(
    self: Task, backend_id: int, message_id: int, transmission_ids: Iterable[int]
) -> None:
    """Send a message to some of its recipients, all of one backend; try failed ones again later.

    :param backend_id: primary key of a :class:`rapidsms.models.Backend`.
    :param message_id: primary key of an outbound :class:`~rapidsms_db_router.models.Message`.
    :param transmission_ids: primary keys of :class:`~rapidsms_db_router.models.Transmission`.
        Those that are already sent, or being sent by another, are left alone.
    :raises rapidsms.errors.MessageSendingError: if the backend failed and the task was called
        directly, or was called eagerly and will not be tried again. In a worker the failure is
        stored and logged instead.
    """
    eager = self.request.is_eager
    failure = delivery.send_batch(
        get_router(), backend_id, message_id, list(transmission_ids), retry_at_once=eager
    )
    if failure is None:
        return
    if self.request.called_directly:
        raise failure.error
    if failure.retry_ids:
        raise self.retry(
            exc=failure.error,
            countdown=failure.retry_in,
            args=(),
            kwargs={
                "backend_id": backend_id,
                "message_id": message_id,
                "transmission_ids": failure.retry_ids,
            },
        )
    if eager:
        raise failure.error
