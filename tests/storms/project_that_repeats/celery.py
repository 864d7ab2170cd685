"""A Celery app that publishes every task several times: the same message, with the same id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.utils.objects import cached_property

TIMES = 4


class RepeatingAMQP(AMQP):
    """Publishes what the usual one publishes once."""

    @cached_property
    def send_task_message(self) -> Callable[..., Any]:
        """What every way of publishing a task ends in."""
        send = super().send_task_message

        def send_repeatedly(*args: Any, **options: Any) -> Any:
            return [send(*args, **options) for _ in range(TIMES)][-1]

        return send_repeatedly


app = Celery("project_that_repeats", amqp=RepeatingAMQP)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
