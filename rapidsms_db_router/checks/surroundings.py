"""Checks of what else is installed, and of the database."""

from __future__ import annotations

import datetime
import time
import zoneinfo
from collections.abc import Iterator
from typing import Any

import django
from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string
from rapidsms.apps.base import AppBase

from rapidsms_db_router import reverse_names
from rapidsms_db_router.checks.settings import ID
from rapidsms_db_router.db.connection import alias

ROUTER = "rapidsms_db_router.DatabaseRouter"
OLD_ROUTER = "rapidsms.router.db.DatabaseRouter"
#: Packages that keep each tenant in a schema of its own.
TENANT_PACKAGES = {"django_tenants", "tenant_schemas"}
#: Days in which clocks are changed if they ever are.
YEAR = 400


@register(Tags.compatibility)
def check_surroundings(**_: Any) -> list[CheckMessage]:
    """Check what else is installed.

    W020
        ``RAPIDSMS_ROUTER`` names another router. It may be that of ``rapidsms.router.db`` as long
        as this is installed, too.
    W021
        The ``app`` module of an installed app cannot be imported.
    W022
        ``rapidsms.router.db`` is installed as well, and has the name ``Connection.transmissions``.
    """
    found: list[CheckMessage] = []
    router = getattr(settings, "RAPIDSMS_ROUTER", None)
    moving_in = apps.is_installed(reverse_names.OLD_APP)
    if not _is_ours(router) and not (moving_in and router == OLD_ROUTER):
        found.append(
            Warning(
                f"RAPIDSMS_ROUTER is {router!r}: messages do not go through rapidsms_db_router.",
                hint=f"Set RAPIDSMS_ROUTER = {ROUTER!r}, or to a subclass of it.",
                id=ID + "W020",
            )
        )
    elif moving_in and _is_ours(router) and reverse_names.yields() == reverse_names.OURS:
        found.append(
            Warning(
                f"Connection.transmissions are those of {reverse_names.OLD_APP}, and messages go"
                " through rapidsms_db_router.",
                hint=f"Remove {reverse_names.OLD_APP!r} from INSTALLED_APPS.",
                id=ID + "W022",
            )
        )
    return [*found, *_check_apps()]


def _check_apps() -> Iterator[CheckMessage]:
    for name in settings.INSTALLED_APPS:
        try:
            AppBase.find(name)
        except Exception as err:  # not an Error: migrate may be what it needs
            yield Warning(
                f"The RapidSMS app of {name!r} cannot be imported: {err}",
                hint=f"Correct {name}.app: inbound messages wait until all apps can be built.",
                id=ID + "W021",
            )


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
    E041
        Dates are stored in a time zone whose clocks are changed, as for summer time.
    E042
        The app is among the ``TENANT_APPS`` of django-tenants.
    """
    connection = connections[alias()]
    return [*_check_sqlite(connection), *_check_zone(connection), *_check_tenants(connection)]


def _check_sqlite(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    try:
        alone = connection.vendor != "sqlite" or current_app.conf.task_always_eager
    except Exception:
        alone = True  # Celery cannot read its settings, as E030 says
    if not alone and (missing := _missing_sqlite_options(connection)):
        yield Warning(
            "Web server and worker both write to SQLite, and one will see 'database is locked'"
            f" without {' and '.join(repr(option) for option in missing)} in its OPTIONS.",
            hint=f"Set DATABASES[{connection.alias!r}]['OPTIONS'] to {SQLITE_OPTIONS!r}; or use"
            " PostgreSQL or MariaDB.",
            id=ID + "W040",
        )


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


def _check_zone(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Look for dates that are stored without their zone: an hour that comes twice has one name."""
    if not settings.USE_TZ:
        name, zone = "TIME_ZONE", settings.TIME_ZONE
    elif connection.vendor != "postgresql":  # which stores the moment itself
        name = f"DATABASES[{connection.alias!r}]['TIME_ZONE']"
        zone = connection.settings_dict.get("TIME_ZONE") or "UTC"
    else:
        return
    if _is_changed(zone):
        yield Error(
            f"USE_TZ is {settings.USE_TZ}, and {name} is {zone!r}, where clocks are changed. The"
            " database holds dates without their zone, so that they are wrong by an hour then:"
            " work that is under way counts as lost, and retries come an hour late.",
            hint="Set USE_TZ = True without a TIME_ZONE in DATABASES; or set that time zone to one"
            " without summer time, such as 'UTC'.",
            id=ID + "E041",
        )


def _is_changed(name: str | None) -> bool:
    """Return whether clocks are changed in a time zone; ``None`` is that of the machine."""
    zone = None if name is None else zoneinfo.ZoneInfo(name)
    start = time.time()
    dates = (datetime.datetime.fromtimestamp(start + day * 86_400, zone) for day in range(YEAR))
    return len({date.astimezone(zone).utcoffset() for date in dates}) > 1


def _check_tenants(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    engine = str(connection.settings_dict.get("ENGINE"))
    # both packages mean the same by it
    names = [str(name).partition(".")[0] for name in getattr(settings, "TENANT_APPS", ())]
    if engine.partition(".")[0] in TENANT_PACKAGES and "rapidsms_db_router" in names:
        yield Error(
            f"The database is {engine!r}, and TENANT_APPS has 'rapidsms_db_router': a worker would"
            " find the messages of no tenant, or those of another one.",
            hint="Have 'rapidsms' and 'rapidsms_db_router' in SHARED_APPS alone, or run each tenant"
            " with settings, a database and workers of its own.",
            id=ID + "E042",
        )
