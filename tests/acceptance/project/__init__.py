"""A project without a Celery app of its own."""
