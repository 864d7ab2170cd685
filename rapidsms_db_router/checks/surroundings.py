"""Checks of what else is installed, and of the database."""

from __future__ import annotations

from typing import Any

import django
from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from rapidsms_db_router.checks.settings import ID
from rapidsms_db_router.db.connection import alias

ROUTER = "rapidsms_db_router.DatabaseRouter"


@register(Tags.compatibility)
def check_surroundings(**_: Any) -> list[CheckMessage]:
    """Check what else is installed.

    E020
        ``rapidsms.router.db`` is installed as well.
    W020
        ``RAPIDSMS_ROUTER`` names another router.
    """
    found: list[CheckMessage] = []
    if apps.is_installed("rapidsms.router.db"):
        found.append(
            Error(
                "Both rapidsms.router.db and rapidsms_db_router are installed; both want"
                " Connection.transmissions.",
                hint="Remove 'rapidsms.router.db' from INSTALLED_APPS: rapidsms_db_router takes"
                " its place.",
                id=ID + "E020",
            )
        )
    router = getattr(settings, "RAPIDSMS_ROUTER", None)
    if not _is_ours(router):
        found.append(
            Warning(
                f"RAPIDSMS_ROUTER is {router!r}: messages do not go through rapidsms_db_router.",
                hint=f"Set RAPIDSMS_ROUTER = {ROUTER!r}, or to a subclass of it.",
                id=ID + "W020",
            )
        )
    return found


def _is_ours(router: Any) -> bool:
    from rapidsms_db_router.router import DatabaseRouter

    if isinstance(router, str):
        try:
            router = import_string(router)
        except ImportError:
            return False
    return isinstance(router, DatabaseRouter) or (
        isinstance(router, type) and issubclass(router, DatabaseRouter)
    )


@register(Tags.compatibility)
def check_database(**_: Any) -> list[CheckMessage]:
    """Check the database that messages are stored in.

    W040
        SQLite lacks the options that let a web server and a worker both write.
    """
    connection = connections[alias()]
    try:
        alone = connection.vendor != "sqlite" or current_app.conf.task_always_eager
    except Exception:
        alone = True  # Celery cannot read its settings, as E030 says
    if alone:
        return []
    missing = _missing_sqlite_options(connection)
    if not missing:
        return []
    return [
        Warning(
            "Web server and worker both write to SQLite, and one will see 'database is locked'"
            f" without {' and '.join(repr(option) for option in missing)} in its OPTIONS.",
            hint=f"Set DATABASES[{connection.alias!r}]['OPTIONS'] to {SQLITE_OPTIONS!r}; or use"
            " PostgreSQL or MariaDB.",
            id=ID + "W040",
        )
    ]


SQLITE_OPTIONS: dict[str, Any] = {"timeout": 20}
if django.VERSION >= (5, 1):
    SQLITE_OPTIONS |= {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;",
    }


def _missing_sqlite_options(connection: BaseDatabaseWrapper) -> list[str]:
    options = connection.settings_dict.get("OPTIONS", {})
    missing = []
    if options.get("timeout", 0) < SQLITE_OPTIONS["timeout"]:
        missing.append("timeout")
    if django.VERSION >= (5, 1):
        if str(options.get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
            missing.append("transaction_mode")
        if "journal_mode" not in str(options.get("init_command")).lower():
            missing.append("init_command")
    return missing
