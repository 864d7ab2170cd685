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
from rapidsms_db_router.db.connection import alias, run, table
from rapidsms_db_router.models import Batch, FormerConnection, Gateway
from rapidsms_db_router.models.keys import among
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
    _before_backend(backend)
    connections = Connection.objects.using(alias()).filter(backend=backend.pk)
    size = LARGE if _stands_alone() else CHUNK
    count = 0
    while ids := list(connections.order_by("pk").values_list("pk", flat=True)[:size]):
        some = connections.filter(among(ids))
        with transaction.atomic(using=alias()):
            _remember(
                "c.backend_id = %(backend)s AND c.id <= %(last)s", backend=backend.pk, last=ids[-1]
            )
            if _stands_alone():
                some._raw_delete(alias())
            else:
                some.delete()
        count += len(ids)
    backend.delete(using=alias())
    logger.info("backend_deleted connections=%s", count)
    return count


def _stands_alone() -> bool:
    """Return whether no rows of a project belong to connections, but for those of this app."""
    relations: Any = Connection._meta.related_objects
    return all(each.on_delete is models.DO_NOTHING for each in relations)


def _before_backend(instance: Backend, using: str | None = None, **_: Any) -> None:
    if using not in (None, alias()):
        return
    _remember("c.backend_id = %(backend)s", backend=instance.pk)
    batches = Batch.objects.filter(backend=instance.pk).order_by("pk")
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
