"""The project on ``rapidsms_db_router``, without a Celery app of its own."""
