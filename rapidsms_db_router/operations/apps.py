"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig

from rapidsms_db_router import signals


class OperationsConfig(AppConfig):
    """Fills the tallies, tells of incidents, and prunes what is old, at each turn of recovery.

    What people do is kept.
    Tallies of hours to which old rows have come over are filled anew.
    """

    name = "rapidsms_db_router.operations"
    label = "rapidsms_db_router_operations"
    verbose_name = "Operations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rapidsms_db_router.operations import alerts, audit, checks  # noqa: F401
        from rapidsms_db_router.operations.retention import auditing, sweeping
        from rapidsms_db_router.operations.tallies import filling, hours

        signals.recovery_turn.connect(alerts.at_recovery)
        signals.recovery_turn.connect(filling.at_recovery)
        signals.recovery_turn.connect(sweeping.at_recovery)
        signals.recovery_turn.connect(auditing.at_recovery)
        signals.operator_acted.connect(audit.at_action)
        signals.bulk_action_goes_on.connect(audit.at_chunk)
        signals.rows_imported.connect(hours.at_import)
