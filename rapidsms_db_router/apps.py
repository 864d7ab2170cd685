"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import class_prepared, post_save

from rapidsms_db_router import reverse_names

# here, since apps are imported before any model is
class_prepared.connect(reverse_names.rename)


class RapidsmsDbRouterConfig(AppConfig):
    """Registers the system checks, and a Celery app where the project has none."""

    name = "rapidsms_db_router"
    verbose_name = "Messages"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rapidsms_db_router import checks, deleting, tasks  # noqa: F401
        from rapidsms_db_router.recovery.step import RecoveryStep
        from rapidsms_db_router.reports.kannel import follow_kannel_report
        from rapidsms_db_router.worker import celery_app, shutdown  # noqa: F401  # before any fork

        if apps.is_installed("rapidsms.backends.kannel"):
            report = apps.get_app_config("kannel").get_model("DeliveryReport")
            post_save.connect(follow_kannel_report, sender=report)
        celery_app.ensure().steps["worker"].add(RecoveryStep)
