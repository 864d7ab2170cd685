"""The servers that the tests can use, where they are, and which of them answer.

Where they are comes from the environment: PGHOST, PGPORT, PGUSER, PGPASSWORD; MARIADB_HOST,
MARIADB_PORT, MARIADB_USER, MARIADB_PASSWORD; REDIS_URL; RABBITMQ_URL. Without it they are sought on
this machine. Under continuous integration (``CI=true``) every one of them has to answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import kombu
import pytest

DATABASES = ("postgres", "mariadb")
BROKERS = {
    "redis": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    "rabbitmq": os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
}
#: How long a server may take to answer, in seconds.
PATIENCE = 3
#: Under continuous integration a server that does not answer is a failure.
ALL_REQUIRED = os.environ.get("CI", "").lower() in ("1", "true")


def connect_postgres(database: str = "postgres") -> Any:
    """Return a connection to the PostgreSQL server, else to none of the tests' databases."""
    import psycopg

    return psycopg.connect(
        host=os.environ.get("PGHOST", "127.0.0.1"),
        port=os.environ.get("PGPORT", "5432"),
        user=os.environ.get("PGUSER", "postgres"),
        password=os.environ.get("PGPASSWORD", ""),
        dbname=database,
        connect_timeout=PATIENCE,
        autocommit=True,
    )


def connect_mariadb() -> Any:
    """Return a connection to the MariaDB server, to no database."""
    import pymysql

    return pymysql.connect(
        host=os.environ.get("MARIADB_HOST", "127.0.0.1"),
        port=int(os.environ.get("MARIADB_PORT", "3306")),
        user=os.environ.get("MARIADB_USER", "root"),
        password=os.environ.get("MARIADB_PASSWORD", ""),
        connect_timeout=PATIENCE,
        autocommit=True,
    )


def connect_broker(name: str) -> kombu.Connection:
    """Return a connection to Redis or RabbitMQ that was used once, so that it is known to work."""
    connection = kombu.Connection(BROKERS[name], connect_timeout=PATIENCE)
    connection.ensure_connection(max_retries=1, interval_start=0, timeout=PATIENCE)
    connection.default_channel  # noqa: B018 - Redis is first spoken to when a channel is made
    return connection


CONNECT: dict[str, Callable[[], Any]] = {
    "postgres": connect_postgres,
    "mariadb": connect_mariadb,
    "redis": lambda: connect_broker("redis"),
    "rabbitmq": lambda: connect_broker("rabbitmq"),
}


def problem(name: str) -> str:
    """Return why a server cannot be used; an empty string if it answers."""
    try:
        connection = CONNECT[name]()
    except Exception as err:  # each driver has its own errors, and may be missing itself
        said = " ".join(str(err).split())
        return f"{type(err).__name__}: {said}"
    close = connection.release if isinstance(connection, kombu.Connection) else connection.close
    close()
    return ""


def require(*names: str) -> None:
    """Skip the calling test unless these servers answer; under CI fail it instead."""
    for name in names:
        if why := problem(name):
            complain = pytest.fail if ALL_REQUIRED else pytest.skip
            complain(f"{name} does not answer ({why})")
