"""The settings of the project that has no Celery app of its own, word for word."""

from tests.acceptance.project.settings import *  # noqa: F403
