"""Batches, cut from the transmissions of a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import Q
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.storage import bulk


def cut(message: Message) -> None:
    """Write down the batches in which the transmissions of a message that are Q are to be sent.

    Belongs into the transaction that stores the transmissions.
    """
    names = {name for name, _ in conf.installed_backends()}
    own = {name: conf.claim_size(name) for name in names}
    special = {name: size for name, size in own.items() if size != conf.claim_size()}
    sizes = {}
    if special:
        backends = Backend.objects.using(alias()).filter(name__in=special)
        sizes = {pk: special[name] for pk, name in backends.values_list("pk", "name")}
    bulk.insert_batches(message, size=conf.claim_size(), sizes=sizes)


class Row(NamedTuple):
    """A transmission that is to be sent again."""

    id: int
    message_id: int
    backend_id: int
    backend_name: str


def cut_again(rows: Sequence[Row], place: int) -> None:
    """Write down the batches in which some transmissions are to be sent again.

    What is sent again together has its place in the queue like one broadcast.

    :param rows: the transmissions, in the order in which they are to be sent.
    :param place: how many are to be sent before them.
    """
    groups: dict[tuple[int, int, str], list[tuple[int, int]]] = {}
    for number, row in enumerate(rows, start=place):
        key = row.message_id, row.backend_id, row.backend_name
        groups.setdefault(key, []).append((number, row.id))
    moment, most = now(), conf.claim_size()
    named = among({row.message_id for row in rows})
    dated, paused = Q(not_before__gt=moment), Q(paused_at__isnull=False)
    held = Message.objects.filter(named, dated | paused)
    columns = held.values_list("pk", "not_before", "paused_at")
    kept: dict[int, tuple[Any, Any]] = {pk: (date, since) for pk, date, since in columns}
    batches = []
    for (message_id, backend_id, name), members in groups.items():
        size = conf.claim_size(name)
        for start in range(0, len(members), size):
            some = members[start : start + size]
            not_before, paused_at = kept.get(message_id, (None, None))
            due_at = max(not_before or moment, moment)
            batches.append(
                Batch(
                    message_id=message_id,
                    backend_id=backend_id,
                    transmission_ids=[pk for _, pk in some],
                    position=some[0][0] // most,
                    due_at=due_at,
                    ready_at=due_at,
                    paused=paused_at is not None,
                )
            )
    Batch.objects.bulk_create(batches, batch_size=1000)


def first_batches(message: Message) -> list[Batch]:
    """Return one claimable batch of each backend of a message, with its backend."""
    waiting = Batch.objects.filter(message=message, claim_token=None, paused=False)
    batches = waiting.select_related("backend")
    first: dict[int, Batch] = {}
    for batch in batches.filter(position__lte=0).order_by("pk"):
        first.setdefault(batch.backend_id, batch)
    return list(first.values())
