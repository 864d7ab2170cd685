"""The project on ``rapidsms.router.db``, with the Celery app that it needs."""

from benchmarks.theirs.celery import app

__all__ = ("app",)
