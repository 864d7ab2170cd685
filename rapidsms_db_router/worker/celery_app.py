"""The Celery app: the project's own, or one made from the Django settings."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from celery import Celery, current_app
from celery.loaders.default import Loader as UnconfiguredLoader
from kombu.transport import TRANSPORT_ALIASES

#: In place of kombu's own; names, since nothing of them is there without redis.
TRANSPORTS = {
    "redis": "rapidsms_db_router.brokers.redis:Transport",
    "rediss": "rapidsms_db_router.brokers.redis:Transport",
    "sentinel": "rapidsms_db_router.brokers.redis:SentinelTransport",
}

#: Has Python 3.11 leave out the current folder, which may hold a project's celery.py, also where
#: Celery starts itself anew. The tasks of a worker start what they like without it.
SAFE_PATH = "until the worker runs"
STARTS_ANEW = {"--detach", "-D", "multi"}


def ensure() -> Celery:
    """Return the project's Celery app; make one from the Django settings if it has none.

    The project's own is the one that its code has created by now, or that a ``celery.py``
    beside or above its settings module creates. Otherwise the app reads every Django setting
    that begins with ``CELERY_``, and finds tasks in all installed apps.
    """
    TRANSPORT_ALIASES.update(TRANSPORTS)
    if os.environ.get("PYTHONSAFEPATH") == SAFE_PATH and not STARTS_ANEW & set(sys.argv):
        del os.environ["PYTHONSAFEPATH"]
    app: Celery = current_app._get_current_object()
    # this loader is what Celery falls back on where nobody has created an app
    if not isinstance(app.loader, UnconfiguredLoader):
        return app
    app = _in_project() or _from_settings()
    # for every thread, not for this one alone
    app.set_default()
    return app


def _in_project() -> Celery | None:
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    while package:
        name = f"{package}.celery"
        try:
            module = import_module(name)
        except ModuleNotFoundError as err:
            if err.name != name:
                raise  # it is there, and lacks something itself
        else:
            for value in vars(module).values():
                if isinstance(value, Celery):
                    return value
        package = package.rpartition(".")[0]
    return None


def _from_settings() -> Celery:
    app = Celery("rapidsms_db_router")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.autodiscover_tasks()
    # to go on trying is what a worker is for
    app.add_defaults(
        {"broker_connection_retry_on_startup": True, "broker_connection_max_retries": None}
    )
    return app


def no_broker(app: Celery, err: Exception) -> str:
    """Return what to tell an operator whose broker does not answer; no password in it."""
    with app.connection_for_read() as connection:
        return (
            f"No broker answers at {connection.as_uri()} ({err}). Start it, or set"
            " CELERY_BROKER_URL to one that runs."
        )
