"""The same project with a Celery app that publishes every task several times."""

from .celery import app as celery_app

__all__ = ("celery_app",)
