"""The project's Celery app, as it was before the move."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.project_that_moves.settings")

app = Celery("project_that_moves")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
