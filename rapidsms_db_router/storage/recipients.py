"""Connections, as callers give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from rapidsms.models import Backend, Connection

from rapidsms_db_router import conf
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.text import shown
from rapidsms_db_router.errors import InvalidConnection

#: Recipients that are stored and divided in Python; the database does so with more of them.
FEW = 1000


def recipients(given: Any) -> list[Connection] | QuerySet[Connection]:
    """Return connections in a form that may be walked more than once.

    :param given: a QuerySet, a list, any other iterable, or one ``Connection``.
    :returns: the QuerySet, of the database that is written; anything else as a list.
    :raises InvalidConnection: for what is no connection, or not saved.
    """
    if isinstance(given, QuerySet):
        if not issubclass(given.model, Connection):
            raise InvalidConnection(
                f"A QuerySet of {given.model.__name__} holds no recipients; pass Connections."
            )
        return given.using(alias())
    several = isinstance(given, Iterable) and not isinstance(given, str)
    connections = list(given) if several else [given]
    for connection in connections:
        primary_key(connection)
    return connections


def primary_key(connection: Any) -> Any:
    """Return the primary key of a saved connection.

    :raises InvalidConnection: for what is no connection, or not saved.
    """
    if not isinstance(connection, Connection):
        raise InvalidConnection(f"{shown(connection)} is no rapidsms.models.Connection.")
    if connection.pk is None:
        raise InvalidConnection(f"{shown(connection)} is not saved; save it before it is used.")
    return connection.pk


def one_batch_for(connections: Any) -> Backend | None:
    """Return the backend of all these connections, if one batch can hold them."""
    if not isinstance(connections, list) or not 0 < len(connections) <= FEW:
        return None
    if len({connection.backend_id for connection in connections}) > 1:
        return None
    first = connections[0]
    if not Connection.backend.is_cached(first):
        first.backend = Backend.objects.using(alias()).get(pk=first.backend_id)
    backend: Backend = first.backend
    return backend if len(connections) <= conf.claim_size(backend.name) else None
