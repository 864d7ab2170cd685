"""Contacts, connections and backends are deleted: their history stays, and what waits is given up.

A transmission goes on naming the primary key of its connection; what that was is written down
once, in :class:`~rapidsms_db_router.models.FormerConnection`. So a deletion costs what connections
there are, and not what was ever sent to them.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import models, transaction
from django.db.models.signals import pre_delete
from rapidsms.models import Backend, Connection, Contact

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, rows_of, run, table
from rapidsms_db_router.models import Batch, FormerConnection, Gateway
from rapidsms_db_router.outbound import discarding

logger = logging.getLogger(__name__)

#: Connections, or batches, that are handled together.
CHUNK = 500
#: Connections of a backend that are deleted together.
LARGE = 10_000


def delete_backend(backend: Backend) -> int:
    """Delete a backend with all of its connections, however many there are, in short transactions.

    :returns: how many connections were deleted.
    """
    _discard(backend)
    connections = Connection.objects.using(alias()).filter(backend=backend.pk)
    alone = _stands_alone()
    first = count = 0
    for last in _divide(backend, LARGE if alone else CHUNK):
        some = connections.filter(pk__gt=first, pk__lte=last)
        with transaction.atomic(using=alias()):
            _remember(
                "c.backend_id = %(backend)s AND c.id > %(first)s AND c.id <= %(last)s",
                backend=backend.pk,
                first=first,
                last=last,
            )
            if alone:
                count += some._raw_delete(alias())
            else:
                count += some.delete()[1].get(Connection._meta.label, 0)
        first = last
    backend.delete(using=alias())
    logger.info("backend_deleted connections=%s", count)
    return count


def _divide(backend: Backend, size: int) -> list[int]:
    """Return the primary keys at which chunks of a backend's connections end.

    It is one query: to look for the next ones after each deletion, a database goes through all that
    were deleted before, until a transaction around it has ended.
    """
    numbered = (
        "SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place, MAX(id) OVER () AS last"
        f" FROM {table(Connection)} WHERE backend_id = %(backend)s"
    )
    chosen = f"SELECT id FROM ({numbered}) numbered WHERE MOD(place, %(size)s) = 0 OR id = last"
    return [pk for (pk,) in rows_of(f"{chosen} ORDER BY id", backend=backend.pk, size=size)]


def _stands_alone() -> bool:
    """Return whether no rows of a project belong to connections, but for those of this app."""
    relations: Any = Connection._meta.related_objects
    return all(each.on_delete is models.DO_NOTHING for each in relations)


def _before_backend(instance: Backend, using: str | None = None, **_: Any) -> None:
    if using in (None, alias()):
        _remember("c.backend_id = %(backend)s", backend=instance.pk)
        _discard(instance)


def _discard(backend: Backend) -> None:
    """Give up all that waits for a backend."""
    batches = Batch.objects.filter(backend=backend.pk).order_by("pk")
    last = 0
    while ids := list(batches.filter(pk__gt=last).values_list("pk", flat=True)[:CHUNK]):
        discarding.discard_batches(ids, discarding.CONNECTION_DELETED)
        last = ids[-1]


def _before_contact(instance: Contact, using: str, **_: Any) -> None:
    if using == alias():
        connections = Connection.objects.using(using).filter(contact=instance.pk)
        _before(list(connections.values_list("pk", flat=True)))


def _before_connection(instance: Connection, using: str, origin: Any = None, **_: Any) -> None:
    # of a contact or a backend that is deleted all connections are written down at once
    root = getattr(origin, "model", type(origin))
    if using == alias() and not issubclass(root, (Backend, Contact)):
        _before([instance.pk])


def _before(ids: list[int]) -> None:
    for pk in ids:
        _remember("c.id = %(pk)s", pk=pk)
    for start in range(0, len(ids), CHUNK):
        discarding.discard_of(ids[start : start + CHUNK], discarding.CONNECTION_DELETED)


def _remember(which: str, **values: Any) -> None:
    """Write down what connections are, unless that is done.

    :param which: the SQL condition of the connections ``c``, with the names of values.
    """
    chosen = (
        f"SELECT c.id, c.identity, b.name, %(moment)s FROM {table(Connection)} c"
        f" JOIN {table(Backend)} b ON b.id = c.backend_id WHERE {which} AND NOT EXISTS"
        f" (SELECT 1 FROM {table(FormerConnection)} f WHERE f.id = c.id)"
    )
    columns = "(id, identity, backend, deleted)"
    run(f"INSERT INTO {table(FormerConnection)} {columns} {chosen}", moment=now(), **values)


pre_delete.connect(_before_connection, sender=Connection)
pre_delete.connect(_before_contact, sender=Contact)
pre_delete.connect(_before_backend, sender=Backend)
pre_delete.connect(_before_backend, sender=Gateway)
