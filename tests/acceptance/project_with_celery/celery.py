"""The project's Celery app."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.project_with_celery.settings")

app = Celery("project_with_celery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
