"""The same project with a Celery app of its own, made as Celery's manual says."""

from .celery import app as celery_app

__all__ = ("celery_app",)
