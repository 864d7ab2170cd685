"""System checks: what is wrong with the settings, or around this app, is said at start."""

from __future__ import annotations

from rapidsms_db_router.checks.celery import check_celery
from rapidsms_db_router.checks.security import check_broker_folder, check_views
from rapidsms_db_router.checks.settings import check_backends, check_settings
from rapidsms_db_router.checks.surroundings import check_database, check_surroundings

__all__ = (
    "check_backends",
    "check_broker_folder",
    "check_celery",
    "check_database",
    "check_settings",
    "check_surroundings",
    "check_views",
)
