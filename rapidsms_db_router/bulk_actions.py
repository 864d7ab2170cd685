"""Actions on any number of rows: sending again, processing again, cancelling, moving.

The rows are chosen first and written down, in chunks; what an operator is told is what is done.
Whoever does a chunk deletes it in the same transaction. So two workers never do the same chunk, and
a worker that dies leaves it to the next. Recovery publishes a bulk action again whose task is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, F, QuerySet

from rapidsms_db_router.acting import acted, goes_on
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.inbound import again as inbound_again
from rapidsms_db_router.models import Batch, BulkAction, BulkActionChunk, Message, Transmission
from rapidsms_db_router.models.bulk_action import SENTENCES
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import PENDING
from rapidsms_db_router.outbound import again, discarding, moving, outbox
from rapidsms_db_router.publishing import doorbells

logger = logging.getLogger(__name__)

Kind, State = BulkAction.Kind, BulkAction.State
#: Transmissions, or inbound messages, of one chunk. A message whose transmissions are more is one.
CHUNK = 500
#: A task does chunks for this long, in seconds, then another task goes on: others have their turn.
SLICE = 3.0
#: Rows that were chosen, and not confirmed for so long, are forgotten.
LONGEST_PREPARED = timedelta(days=1)
#: The width of the column.
LONGEST_REASON = 200

#: How many were moved, and what follows the commit.
Done = tuple[int, Callable[[], None]]


def prepare(
    kind: str,
    rows: QuerySet[Any],
    requested_by: str = "",
    *,
    reason: str = "",
    send_at: datetime | None = None,
) -> BulkAction:
    """Choose the rows of a bulk action; nothing is changed yet.

    Rows that arrive, or become errored, later are not among them.

    :param kind: a ``BulkAction.Kind``.
    :param rows: among which to choose: transmissions, messages or batches, as its kind says. Those
        that the action cannot change are left out.
    :param requested_by: the name of the user that asks for it.
    :param reason: why, as it is shown.
    :param send_at: the date from which they are to be sent, for ``move``.
    :returns: the bulk action, with its ``total``.
    :raises ValueError: if ``move`` has no date, or another kind has one.
    """
    if (kind == Kind.MOVE) != (send_at is not None):
        raise ValueError(f"send_at is {send_at!r}; it is a date for 'move', and None for {kind!r}.")
    with transaction.atomic(using=alias()):
        action = BulkAction.objects.create(
            kind=kind, requested_by=requested_by, reason=reason[:LONGEST_REASON], send_at=send_at
        )
        old = BulkAction.objects.filter(state=State.PREPARED)
        old.filter(created__lt=now() - LONGEST_PREPARED).delete()
        chunks = _divide(KINDS[Kind(action.kind)].keys(chosen(kind, rows)))
        # not held as a whole: there may be millions of rows
        while some := list(islice(chunks, 100)):
            BulkActionChunk.objects.bulk_create(
                BulkActionChunk(action=action, ids=ids, size=size) for ids, size in some
            )
            action.total += sum(size for _, size in some)
        action.save(update_fields=["total"])
    return action


def chosen(kind: str, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return what a bulk action would change: transmissions, inbound messages, or batches."""
    return KINDS[Kind(kind)].choose(rows)


def next_transmissions(action: BulkAction, most: int | None = None) -> QuerySet[Transmission]:
    """Return the transmissions of the next chunk of a bulk action; none if all is done.

    :param most: of how many rows of the chunk; ``None``: of all.
    """
    chunk = BulkActionChunk.objects.filter(action=action.pk).order_by("pk").first()
    if chunk is None:
        return Transmission.objects.none()
    return KINDS[Kind(action.kind)].transmissions(chunk.ids[:most])


def permission_for(kind: str) -> str:
    """Return the permission that a user needs for a bulk action."""
    return f"rapidsms_db_router.{KINDS[Kind(kind)].permission}"


def describe(kind: str, count: int, *, done: bool = False) -> str:
    """Return what a bulk action does, as a sentence.

    :param count: to how many rows.
    :param done: whether it has been done.
    """
    will_be, is_done = SENTENCES[Kind(kind)]
    return (is_done if done else will_be) % {"number": count, "count": f"{count:,}"}


def start(action: BulkAction, *, by: str = "") -> None:
    """Begin a bulk action: do its first chunk here, and have workers do the others.

    A bulk action that has begun already is left alone.

    :param by: the user that confirms it, if another user asked for it.
    """
    if not _begin(action, by):
        return
    if insist(partial(_do_chunk, action.pk)):
        outbox.after_commit(partial(_publish, action.pk))
    action.refresh_from_db()


def run_here(action: BulkAction, tell: Callable[[BulkAction], None]) -> None:
    """Begin a bulk action and do all of it here.

    :param tell: called after each chunk.
    """
    more = _begin(action, "")
    while more:
        more = insist(partial(_do_chunk, action.pk))
        action.refresh_from_db()
        tell(action)


def go_on(action_id: int) -> bool:
    """Do chunks of a bulk action for some seconds; return whether there may be more."""
    deadline = time.monotonic() + SLICE
    while insist(partial(_do_chunk, action_id)):
        if time.monotonic() >= deadline:
            return True
    return False


def stop(action: BulkAction, *, by: str = "") -> bool:
    """Do no further chunk of a bulk action; return whether there were any.

    Chunks that are done stay done.

    :param by: the user that stops it, if another user asked for it.
    """
    with transaction.atomic(using=alias()):
        # waits for a chunk that is being done
        unfinished = BulkAction.objects.filter(
            pk=action.pk, state__in=(State.PREPARED, State.RUNNING)
        )
        was_running = unfinished.filter(state=State.RUNNING).exists()
        stopped = unfinished.update(state=State.STOPPED, finished=now())
        if stopped:
            if was_running:
                acted("stop", by or action.requested_by, action, count=action.handled)
            BulkActionChunk.objects.filter(action=action.pk).delete()
    action.refresh_from_db()
    if stopped:
        logger.warning("bulk_action_stopped action=%s handled=%s", action.pk, action.handled)
    return bool(stopped)


def _begin(action: BulkAction, by: str) -> bool:
    prepared = BulkAction.objects.filter(pk=action.pk, state=State.PREPARED)
    with transaction.atomic(using=alias()):
        begun = prepared.update(state=State.RUNNING, updated=now())
        if begun:
            after = {"send_at": action.send_at} if action.send_at else {}
            who, reason = by or action.requested_by, action.reason
            acted(action.kind, who, action, count=action.total, after=after, reason=reason)
    if begun:
        ids = action.pk, action.kind, action.total
        logger.info("bulk_action_started action=%s kind=%s rows=%s", *ids)
    return bool(begun)


def _publish(action_id: int) -> None:
    doorbells.publish_bulk_action(action_id)


def _do_chunk(action_id: int) -> bool:
    """Do one chunk; return whether there are more."""
    follow: Callable[[], None] | None = None
    with transaction.atomic(using=alias()):
        running = BulkAction.objects.filter(pk=action_id, state=State.RUNNING)
        # also a lock: of several workers one does a chunk at a time
        if not running.update(updated=now()):
            return False
        action = running.get()
        chunks = BulkActionChunk.objects.filter(action=action_id).order_by("pk")
        if (chunk := chunks.first()) is not None:
            if action.handled:
                goes_on(action)
            changed, follow = KINDS[Kind(action.kind)].move(chunk.ids, action)
            chunk.delete()
            running.update(handled=F("handled") + chunk.size, changed=F("changed") + changed)
        more = chunks.exists()
        if not more:
            running.update(state=State.DONE, finished=now())
    if follow is not None:
        outbox.after_commit(follow)
    return more


def _divide(keys: Iterable[tuple[int, int]]) -> Iterator[tuple[list[int], int]]:
    """Divide keys, each with how many rows it stands for, into chunks."""
    ids: list[int] = []
    size = 0
    for key, weight in keys:
        if ids and size + weight > CHUNK:
            yield ids, size
            ids, size = [], 0
        ids.append(key)
        size += weight
    if ids:
        yield ids, size


# The kinds


class _Kind(NamedTuple):
    #: Returns what is to be changed among some rows.
    choose: Callable[[QuerySet[Any]], QuerySet[Any]]
    #: Yields the keys of that, in order, each with how many rows it stands for.
    keys: Callable[[QuerySet[Any]], Iterable[tuple[int, int]]]
    #: Does a chunk, given its keys, of a bulk action.
    move: Callable[[list[int], BulkAction], Done]
    #: Returns the transmissions that some keys stand for.
    transmissions: Callable[[list[int]], QuerySet[Transmission]]
    #: The permission that it needs.
    permission: str


def _errored_transmissions(rows: QuerySet[Any]) -> QuerySet[Any]:
    outbound = rows.filter(status=Status.ERRORED, message__direction=Direction.OUTGOING)
    return outbound.filter(message__blanked_at=None)


def _errored_messages(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(status=Status.ERRORED, direction=Direction.INCOMING, blanked_at=None)


def _pending_transmissions(rows: QuerySet[Any]) -> QuerySet[Any]:
    outbound = rows.filter(direction=Direction.OUTGOING).order_by().values("pk")
    return Transmission.objects.filter(PENDING, message__in=outbound)


def _each(rows: QuerySet[Any]) -> Iterable[tuple[int, int]]:
    return ((pk, 1) for pk in rows.order_by("pk").values_list("pk", flat=True).iterator(5000))


def _messages_of(rows: QuerySet[Any]) -> Iterable[tuple[int, int]]:
    counts = rows.order_by("message").values_list("message").annotate(Count("pk"))
    counted: Iterable[tuple[int, int]] = counts.iterator(5000)
    return counted


def _unclaimed(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(claim_token=None)


def _batches(rows: QuerySet[Any]) -> Iterable[tuple[int, int]]:
    columns = "pk", "transmission_ids", "claim_token"
    for pk, ids, token in rows.order_by("pk").values_list(*columns).iterator(1000):
        if token is None:
            yield pk, len(ids)
        else:  # some of it has been sent
            yield pk, Transmission.objects.filter(PENDING, among(ids)).count()


def _resend(ids: list[int], action: BulkAction) -> Done:
    count, messages = again.resend(Transmission.objects.filter(among(ids)), action.handled)
    return count, partial(outbox.send, messages)


def _reprocess(ids: list[int], action: BulkAction) -> Done:
    moved = inbound_again.reprocess(Message.objects.filter(among(ids)))
    return len(moved), partial(doorbells.publish_all_inbound, moved)


def _cancel(ids: list[int], action: BulkAction) -> Done:
    return discarding.cancel(Message.objects.filter(among(ids))), lambda: None


def _discard(ids: list[int], action: BulkAction) -> Done:
    error = discarding.CANCELLED
    if action.reason:
        error = f"{error}: {action.reason}"
    return discarding.discard_batches(ids, error), lambda: None


def _move(ids: list[int], action: BulkAction) -> Done:
    count, messages = moving.move(ids, action.send_at or now())
    return count, partial(outbox.send, messages)


def _of_messages(ids: list[int]) -> QuerySet[Transmission]:
    return Transmission.objects.filter(among(ids, "message"))


def _of_batches(ids: list[int]) -> QuerySet[Transmission]:
    several = Batch.objects.filter(among(ids)).values_list("transmission_ids", flat=True)
    pending = {pk for some in several for pk in some}
    if not pending:
        return Transmission.objects.none()
    return Transmission.objects.filter(PENDING, among(pending))


def _themselves(ids: list[int]) -> QuerySet[Transmission]:
    return Transmission.objects.filter(among(ids))


KINDS = {
    Kind.RESEND: _Kind(_errored_transmissions, _each, _resend, _themselves, "resend_message"),
    Kind.REPROCESS: _Kind(_errored_messages, _each, _reprocess, _of_messages, "reprocess_message"),
    Kind.CANCEL: _Kind(
        _pending_transmissions, _messages_of, _cancel, _of_messages, "cancel_message"
    ),
    Kind.DISCARD: _Kind(lambda rows: rows, _batches, _discard, _of_batches, "cancel_message"),
    Kind.SEND_NOW: _Kind(_unclaimed, _batches, _move, _of_batches, "pause_message"),
    Kind.MOVE: _Kind(_unclaimed, _batches, _move, _of_batches, "pause_message"),
}
