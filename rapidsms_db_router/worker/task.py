"""The base of the tasks."""

from __future__ import annotations

import logging
import math
from typing import Any

from celery import Task
from celery.exceptions import TaskPredicate
from celery.result import AsyncResult

from rapidsms_db_router import backoff
from rapidsms_db_router.db.transient import is_transient
from rapidsms_db_router.errors import RouterNotBuilt
from rapidsms_db_router.worker.connections import connected
from rapidsms_db_router.worker.publisher import publisher

logger = logging.getLogger(__name__)

#: A task that found no database, or could not build an app, comes again after this many seconds, at
#: first and at the most.
FIRST_AWAY, LONGEST_AWAY = 0.5, 5.0
#: One more try after a connection that the broker had closed in the meantime.
PUBLISH_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1}


class RouterTask(Task):
    """A task whose loss or repetition changes nothing but timing."""

    abstract = True
    ignore_result = True
    serializer = "json"
    # A task that was taken from the broker by a worker that died is handed out again; the
    # claims in the database make that harmless.
    acks_late = True
    reject_on_worker_lost = True
    # None given to retry() would mean this attribute, which is 3 by default
    max_retries = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; in a worker, with the connection to the database that it keeps.

        Should the database be away, or an app not be built, the task comes again soon, as often as
        it takes. Whatever else is raised is logged by Celery: its class alone.
        """
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            with connected():
                return self.run(*args, **kwargs)
        except TaskPredicate:
            raise
        except Exception as exc:
            if self.request.is_eager:
                raise
            if not (isinstance(exc, RouterNotBuilt) or is_transient(exc)):
                logger.debug("task_failed task=%s", self.name, exc_info=True)
                # in place of what Celery would log with all that it says
                raise RuntimeError(type(exc).__name__).with_traceback(exc.__traceback__) from None
            logger.warning("task_put_off task=%s error=%s", self.name, type(exc).__name__)
        # outside, since Celery logs what it is raised from, in which there may be anything
        wait = min(backoff.delay(self.request.retries + 1, FIRST_AWAY), LONGEST_AWAY)
        # whole seconds: Celery's delayed delivery of quorum queues knows no others
        raise self.retry(countdown=math.ceil(wait))

    def apply_async(self, *args: Any, **options: Any) -> AsyncResult:
        """Publish the task, or fail soon: what it is about is stored already."""
        if self.app.conf.task_always_eager:
            return super().apply_async(*args, **options)
        # what is shown of a task, and in which there may be anything
        shown = {"argsrepr": "(...)", "kwargsrepr": "{...}"}
        options = {
            **shown,
            "producer": publisher(self.app),
            "retry_policy": PUBLISH_RETRY,
            **options,
        }
        return super().apply_async(*args, **options)
