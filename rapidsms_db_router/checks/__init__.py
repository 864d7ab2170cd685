"""System checks: what is wrong with the settings or around us is said at start."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import django
from celery import current_app
from celery.app.backends import by_url
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from rapidsms_db_router import conf
from rapidsms_db_router.db.connection import alias

ID = "rapidsms_db_router."
KANNEL_ENGINES = (
    "rapidsms.backends.kannel.KannelBackend",
    "rapidsms.backends.kannel.outgoing.KannelBackend",
)
ROUTER = "rapidsms_db_router.DatabaseRouter"


def _positive_integer(value: Any) -> bool:
    return type(value) is int and value > 0


def _natural_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _positive_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _rate(value: Any) -> bool:
    return isinstance(value, str) and conf.RATE.fullmatch(value) is not None


def _crash_policy(value: Any) -> bool:
    return value in (conf.RESEND, conf.ERROR)


Kind = tuple[Callable[[Any], bool], str]
POSITIVE_INTEGER: Kind = (_positive_integer, "a positive integer")
NATURAL_NUMBER: Kind = (_natural_number, "an integer, 0 or more")
POSITIVE_NUMBER: Kind = (_positive_number, "a number of seconds, more than 0")
TRUTH: Kind = (_truth, "True or False")
NAME: Kind = (_name, "the name of a Celery queue")
RATE: Kind = (_rate, "a number of SMS a second, minute or hour, such as '30/s' or '600/m'")
CRASH_POLICY: Kind = (_crash_policy, f"{conf.RESEND!r} or {conf.ERROR!r}")

SETTINGS: dict[str, tuple[str, Kind]] = {
    "DB_ROUTER_DEFAULT_BATCH_SIZE": ("E001", POSITIVE_INTEGER),
    "DB_ROUTER_MAX_RETRIES": ("E002", NATURAL_NUMBER),
    "DB_ROUTER_RETRY_BACKOFF": ("E003", POSITIVE_NUMBER),
    "DB_ROUTER_VISIBILITY_TIMEOUT": ("E004", POSITIVE_NUMBER),
    "DB_ROUTER_RECOVERY_INTERVAL": ("E005", POSITIVE_NUMBER),
    "DB_ROUTER_ATOMIC_RECEIVE": ("E006", TRUTH),
}
BACKEND_OPTIONS: dict[str, Kind] = {
    "router.db.after_crash": CRASH_POLICY,
    "router.db.batch_size": POSITIVE_INTEGER,
    "router.db.concurrency": POSITIVE_INTEGER,
    "router.db.eager": TRUTH,
    "router.db.max_retries": NATURAL_NUMBER,
    "router.db.queue": NAME,
    "router.db.rate": RATE,
    "router.db.timeout": POSITIVE_NUMBER,
}


@register(Tags.compatibility)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Check that each setting has a value of its kind.

    E001
        ``DB_ROUTER_DEFAULT_BATCH_SIZE`` is no positive integer.
    E002
        ``DB_ROUTER_MAX_RETRIES`` is no integer of 0 or more.
    E003
        ``DB_ROUTER_RETRY_BACKOFF`` is no number of seconds above 0.
    E004
        ``DB_ROUTER_VISIBILITY_TIMEOUT`` is no number of seconds above 0.
    E005
        ``DB_ROUTER_RECOVERY_INTERVAL`` is no number of seconds above 0.
    E006
        ``DB_ROUTER_ATOMIC_RECEIVE`` is neither ``True`` nor ``False``.
    """
    found: list[CheckMessage] = []
    for name, (id_, (fits, kind)) in SETTINGS.items():
        value = getattr(settings, name, conf.DEFAULTS[name])
        if not fits(value):
            found.append(
                Error(
                    f"{name} is {value!r}, which is not {kind}.",
                    hint=f"Set it to {kind}, or remove it for {conf.DEFAULTS[name]}.",
                    id=ID + id_,
                )
            )
    return found


@register(Tags.compatibility)
def check_backends(**_: Any) -> list[CheckMessage]:
    """Check each entry of ``INSTALLED_BACKENDS``.

    E010
        ``ENGINE`` is missing, or cannot be imported.
    E011
        A key that begins with ``router.db.`` is no option of the router.
    E012
        An option of the router has a value that is not of its kind.
    W013
        RapidSMS's Kannel backend is given several recipients in one call.
    """
    found: list[CheckMessage] = []
    for backend, options in conf.installed_backends():
        found += _check_engine(backend, options.get("engine"))
        if str(options.get("engine")) in KANNEL_ENGINES and _several_in_a_call(options):
            found.append(
                Warning(
                    f"Backend {backend!r} gives Kannel several recipients in one call. Kannel gives"
                    " all their messages one id: if it is killed, all but the first are lost, and"
                    " reports may be taken for each other's.",
                    hint="Set its 'router.db.batch_size' to 1.",
                    id=ID + "W013",
                )
            )
        for key, value in options.items():
            if not key.startswith("router.db."):
                continue
            if key not in BACKEND_OPTIONS:
                found.append(
                    Error(
                        f"Backend {backend!r} sets {key!r}, which is no option of the router.",
                        hint=_nearest(key, BACKEND_OPTIONS),
                        id=ID + "E011",
                    )
                )
            elif not BACKEND_OPTIONS[key][0](value):
                kind = BACKEND_OPTIONS[key][1]
                found.append(
                    Error(
                        f"Backend {backend!r} sets {key!r} to {value!r}, which is not {kind}.",
                        hint=f"Set it to {kind}, or remove it.",
                        id=ID + "E012",
                    )
                )
    return found


def _several_in_a_call(options: Mapping[str, Any]) -> bool:
    return bool(options.get("router.db.batch_size", conf.call_size()) != 1)


def _check_engine(backend: str, engine: Any) -> Iterator[CheckMessage]:
    if isinstance(engine, str):
        try:
            import_string(engine)
            return
        except ImportError as err:
            problem = f"whose ENGINE {engine!r} cannot be imported: {err}"
    elif engine is None:
        problem = "without an ENGINE"
    else:
        return
    yield Error(
        f"INSTALLED_BACKENDS has a backend {backend!r} {problem}.",
        hint="Set ENGINE to the dotted path of a subclass of rapidsms.backends.base.BackendBase.",
        id=ID + "E010",
    )


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"Did you mean {close[0]!r}? Known are {', '.join(known)}."


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
def check_celery(**_: Any) -> list[CheckMessage]:
    """Check for Celery settings with which no task could be published, taken or ended.

    E030
        Celery cannot read its settings.
    E031
        Workers do not accept JSON.
    E032
        The result backend cannot be used.
    E033
        The broker's URL or transport cannot be used, or a folder of the file-system transport
        is missing.
    """
    app = current_app
    try:
        accepted = set(app.conf.accept_content or ())
    except Exception as err:  # old and new setting names mixed, a module that is not there, ...
        return [
            Error(
                f"Celery cannot read its settings: {err}",
                hint="Correct the CELERY_ settings, or what the project's celery.py reads.",
                id=ID + "E030",
            )
        ]
    return [*_check_accepted(accepted), *_check_result_backend(app), *_check_transport(app)]


def _check_accepted(accepted: set[str]) -> Iterator[CheckMessage]:
    if not accepted & {"json", "application/json"}:
        yield Error(
            f"Workers accept {', '.join(sorted(accepted)) or 'nothing'}, and this app's tasks"
            " are JSON.",
            hint="Add 'json' to CELERY_ACCEPT_CONTENT.",
            id=ID + "E031",
        )


def _check_result_backend(app: Any) -> Iterator[CheckMessage]:
    backend = app.conf.result_backend
    problem = None
    if str(backend).startswith(("django-db", "django-cache")) and not apps.is_installed(
        "django_celery_results"
    ):
        problem = "django_celery_results is not in INSTALLED_APPS"
    elif isinstance(backend, str):
        try:
            by_url(backend, app.loader)
        except Exception as err:
            problem = str(err)
    if problem:
        yield Error(
            f"Celery's result backend cannot be used: {problem}.",
            hint="Correct CELERY_RESULT_BACKEND, or remove it: this app needs no results.",
            id=ID + "E032",
        )


def _check_transport(app: Any) -> Iterator[CheckMessage]:
    try:
        with app.connection_for_write() as connection:
            # made on first use; connects to nothing
            if connection.transport.driver_type == "filesystem":
                for name in ("data_folder_in", "data_folder_out"):
                    Path(connection.transport_options.get(name, name)).resolve(strict=True)
    except Exception as err:
        yield Error(
            f"Celery's broker cannot be used: {err}.",
            hint="Correct CELERY_BROKER_URL and CELERY_BROKER_TRANSPORT_OPTIONS, make the folder"
            " that is missing, or install what the broker needs:"
            " pip install 'rapidsms-db-router[redis]' for Redis.",
            id=ID + "E033",
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
