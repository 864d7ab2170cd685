"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class RapidsmsDbRouterConfig(AppConfig):
    """Registers the system checks, and a Celery app where the project has none."""

    name = "rapidsms_db_router"
    verbose_name = "Messages"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rapidsms_db_router import celeryapp, checks, recovery  # noqa: F401

        celeryapp.ensure().steps["worker"].add(recovery.RecoveryStep)
