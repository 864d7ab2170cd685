"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_save


class RapidsmsDbRouterConfig(AppConfig):
    """Registers the system checks, and a Celery app where the project has none."""

    name = "rapidsms_db_router"
    verbose_name = "Messages"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rapidsms_db_router import celeryapp, checks, recovery, reports  # noqa: F401

        if apps.is_installed("rapidsms.backends.kannel"):
            report = apps.get_app_config("kannel").get_model("DeliveryReport")
            post_save.connect(reports.take_kannel_report, sender=report)
        celeryapp.ensure().steps["worker"].add(recovery.RecoveryStep)
