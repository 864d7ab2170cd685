"""The Celery app: the project's own, or one made from the Django settings."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, current_app
from celery.loaders.default import Loader as UnconfiguredLoader
from kombu import pools
from kombu.connection import Connection
from kombu.pools import ProducerPool
from kombu.transport import TRANSPORT_ALIASES

#: In place of kombu's own; a name, since nothing of it is there without redis.
REDIS_TRANSPORT = "rapidsms_db_router.brokers.redis:Transport"


def ensure() -> Celery:
    """Return the project's Celery app; make one from the Django settings if it has none.

    The project's own is the one that its code has created by now, or that a ``celery.py``
    beside or above its settings module creates. Otherwise the app reads every Django setting
    that begins with ``CELERY_``, and finds tasks in all installed apps.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), REDIS_TRANSPORT))
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


#: How long to wait for a broker that has a task to take, in seconds: the task's message is
#: stored, so that whoever stored it need not wait.
BROKER_PATIENCE = 0.8
#: Options by which a transport is told of it; without them a broker that hangs hangs its callers.
PATIENCE_OPTIONS = {
    "amqp": ("read_timeout", "write_timeout"),
    "redis": ("socket_timeout", "socket_connect_timeout"),
}


def impatient(connection: Connection, seconds: float = BROKER_PATIENCE) -> Connection:
    """Have a connection, not opened yet, give up soon if the broker does not answer."""
    connection.connect_timeout = seconds  # type: ignore[assignment]
    names = PATIENCE_OPTIONS.get(connection.get_transport_cls().driver_type, ())
    options: dict[str, Any] = dict.fromkeys(names, seconds)
    connection.transport_options = {**options, **(connection.transport_options or {})}
    return connection


def producers(app: Celery) -> ProducerPool:
    """Return the pool of producers that give up soon if the broker does not answer.

    kombu keeps one pool for each set of connection options, and drops them all in a fork.
    """
    urls = app.conf.broker_write_url, app.conf.broker_url
    if (known := _impatient.get(app)) is None or known[0] != urls:
        # to describe a connection takes as long as to publish a task
        known = _impatient[app] = urls, impatient(app.connection_for_write())
    pool: ProducerPool = pools.producers[known[1]]
    return pool


def no_broker(app: Celery, err: Exception) -> str:
    """Return what to tell an operator whose broker does not answer; no password in it."""
    with app.connection_for_read() as connection:
        return (
            f"No broker answers at {connection.as_uri()} ({err}). Start it, or set"
            " CELERY_BROKER_URL to one that runs."
        )


#: By app: where its broker is, and the connection to it, which is never opened itself.
_impatient: WeakKeyDictionary[Celery, tuple[Any, Connection]] = WeakKeyDictionary()
