"""A project that has used ``rapidsms.router.db``, and moves in."""

from tests.acceptance.project_that_moves.celery import app as celery_app

__all__ = ("celery_app",)
