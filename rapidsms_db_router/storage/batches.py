"""Batches, cut from the transmissions of a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.models.transmission import Group
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


def cut_again(message: Message, groups: Iterable[Group]) -> None:
    """Write down the batches in which some transmissions of a message are to be sent again.

    :param groups: the transmissions, divided.
    """
    positions: Counter[int] = Counter()
    batches, moment = [], now()
    for group in groups:
        batches.append(
            Batch(
                message=message,
                backend_id=group.backend_id,
                transmission_ids=group.ids,
                position=positions[group.backend_id],
                ready_at=moment,
            )
        )
        positions[group.backend_id] += 1
    Batch.objects.bulk_create(batches, batch_size=1000)


def first_batches(message: Message) -> list[Batch]:
    """Return one claimable batch of each backend of a message, with its backend."""
    batches = Batch.objects.filter(message=message, claim_token=None).select_related("backend")
    first: dict[int, Batch] = {}
    for batch in batches.filter(position__lte=0).order_by("pk"):
        first.setdefault(batch.backend_id, batch)
    return list(first.values())
