"""Blanking and deleting messages: short transactions with pauses between, in plain SQL."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from django.db import models, transaction

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Batch, Message, Part, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import OPEN
from rapidsms_db_router.operations.models import Broadcast, Hour
from rapidsms_db_router.operations.reasons import reason_of
from rapidsms_db_router.operations.retention.rules import IDLE, Rules, judge

#: Rows of one transaction: 99 of 100 took 45 ms at most, beside a worker (docs/performance.rst).
CHUNK = 250
#: While messages are sent, a pause is this many times as long as the transaction before it.
PAUSES = 9
#: The models whose rows are deleted here with those they belong to.
OURS = (Batch, Broadcast, Message, Part, Transmission)


def divide(numbers: dict[int, int]) -> Iterator[list[int]]:
    """Divide messages into chunks; one with more transmissions than a chunk is one by itself.

    :param numbers: of transmissions, by the message's primary key.
    """
    some: list[int] = []
    size = 0
    for pk, number in numbers.items():
        if some and size + number + 1 > CHUNK:
            yield some
            some, size = [], 0
        some.append(pk)
        size += number + 1
    if some:
        yield some


def delete(ids: Sequence[int], number: int, rules: Rules) -> tuple[int, int]:
    """Delete the messages of a chunk that may still go.

    :param number: how many transmissions they have.
    :returns: how many messages and transmissions were deleted.
    """
    if number > CHUNK:
        return _delete_large(ids[0], rules)
    with _chunk():
        _lock(ids)
        gone = list(judge(ids, rules).delete)
        if not gone:
            return 0, 0
        rows = Transmission.objects.filter(among(gone, "message"))
        count = _delete_transmissions(list(rows.values_list("pk", flat=True)))
        _delete_messages(gone)
    return len(gone), count


def _delete_large(pk: int, rules: Rules) -> tuple[int, int]:
    """Delete a message of which all transmissions may go, in chunks."""
    count = 0
    for ids in transmissions_of(pk):
        with _chunk():
            if not _lock([pk]):
                return 0, count
            gone = Transmission.objects.filter(among(ids), message=pk).exclude(OPEN)
            count += _delete_transmissions(list(gone.values_list("pk", flat=True)))
    with _chunk():
        _lock([pk])
        if pk not in judge([pk], rules).delete:
            return 0, count
        _delete_messages([pk])
    return 1, count


def transmissions_of(pk: int) -> Iterator[list[int]]:
    """Yield the transmissions of a message, a chunk at a time: primary keys."""
    rows = Transmission.objects.filter(message=pk).order_by("connection")
    ids = iter(list(rows.values_list("pk", flat=True)))
    while some := list(islice(ids, CHUNK)):
        yield some


def blank(ids: Collection[int], *, whatever: bool = False) -> int:
    """Erase the texts, fields and errors of messages; of an error its reason stays.

    :param whatever: whether it is done in any state of theirs.
    :returns: how many messages were blanked.
    """
    rows = Transmission.objects.filter(among(ids, "message")).exclude(error="")
    errored = iter(list(rows.values_list("pk", flat=True)))
    while some := list(islice(errored, CHUNK)):
        blank_errors(some)
    with _chunk():
        _lock(ids)
        # whoever sends them again has changed what is named here
        named = Message.objects.filter(
            models.Q() if whatever else IDLE, among(ids), blanked_at=None
        )
        inbound = named.filter(direction=Direction.INCOMING).exclude(error="")
        errors = dict(inbound.values_list("pk", "error"))
        count = named.update(text="", fields={}, context={}, dedup_key=None, blanked_at=now())
        _write_reasons(Message.objects.all(), errors)
    return count


def blank_errors(ids: Collection[int]) -> None:
    """Leave of the errors of transmissions their reasons.

    :param ids: primary keys, at least one.
    """
    with _chunk():
        _begin()
        rows = Transmission.objects.filter(among(ids)).exclude(OPEN)
        locked = rows.order_by("pk").select_for_update()
        _write_reasons(Transmission.objects.all(), dict(locked.values_list("pk", "error")))


def _write_reasons(rows: models.QuerySet[Any], errors: dict[int, str]) -> None:
    groups: dict[str, list[int]] = {}
    for pk, error in errors.items():
        if (reason := reason_of(error)) != error:
            groups.setdefault(reason, []).append(pk)
    for reason, ids in groups.items():
        rows.filter(among(ids)).update(error=reason)


@contextmanager
def _chunk() -> Iterator[None]:
    """Hold a transaction, then leave the database to others: as long again, or longer."""
    begun = time.monotonic()
    with transaction.atomic(using=alias()):
        yield
    took = time.monotonic() - begun
    time.sleep(took * (PAUSES if Batch.objects.claimed().exists() else 1))


def _begin() -> None:
    # a transaction of SQLite that reads before it writes may be refused
    Message.objects.filter(pk=0).update(publishes=0)


def _lock(ids: Collection[int]) -> bool:
    """Lock messages, before their batches and transmissions; return whether all may be changed."""
    _begin()
    idle = Message.objects.filter(IDLE, among(ids)).order_by("pk").select_for_update()
    return len(idle.values_list("pk", flat=True)) == len(ids)


def _delete_transmissions(ids: Collection[int]) -> int:
    if not ids:
        return 0
    # their hours are not counted again
    Hour.objects.filter(first_id__lte=max(ids), is_final=True, pruned=False).update(pruned=True)
    _delete(Part.objects.filter(among(ids, "transmission")))
    _delete(Transmission.objects.filter(among(ids)))
    return len(ids)


def _delete_messages(ids: Collection[int]) -> None:
    Message.objects.filter(among(ids, "in_response_to")).update(in_response_to=None)
    _delete(Broadcast.objects.filter(among(ids, "message")))
    _delete(Message.objects.filter(among(ids)))


def _delete(rows: models.QuerySet[Any]) -> None:
    """Delete rows by one statement, unless a project's own models belong to them."""
    relations = rows.model._meta.related_objects
    if all(relation.related_model in OURS for relation in relations):
        rows._raw_delete(alias())
    else:
        rows.delete()
