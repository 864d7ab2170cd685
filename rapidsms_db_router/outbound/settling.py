"""What follows the commit of a step: the statuses of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, status
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound.lane import Turn

Job = Callable[[], None]


def jobs(turn: Turn) -> Iterator[Job]:
    """Yield what is to be done about the messages of a step; each may be done twice."""
    ended = {batch.message.pk: batch.message for batch in turn.gone}
    errored = {done.call.message.pk for done in turn.completions if done.failed}
    given_up = {done.call.message.pk for done in turn.completions if done.given_up}
    whole = (
        {batch.message.pk for batch in turn.gone if batch.whole and not batch.left}
        - errored
        - set(turn.unsettled)
    )
    claimed = {batch.message.pk: batch.message for batch in turn.claimed}
    if queued := [pk for pk, each in claimed.items() if each.status == "Q"]:
        yield lambda: _mark_processing(queued)
    for message in turn.expired:
        yield lambda message=message: discarding.discard(message, discarding.EXPIRED)  # type: ignore[misc]
    if errored:
        yield lambda: status.mark_errored(Message.objects.filter(pk__in=errored), given_up=False)
    if given_up:
        yield lambda: status.mark_errored(Message.objects.filter(pk__in=given_up), given_up=True)
    for message in claimed.values():
        if message.status == "E":
            yield lambda message=message: status.clear_errors(message)  # type: ignore[misc]
    if whole:
        yield lambda: _mark_sent(sorted(whole))
    for pk, message in ended.items():
        if pk not in whole:
            yield lambda message=message: status.settle_unless_pending(message)  # type: ignore[misc]
    for pk in turn.unsettled:
        if pk not in ended:
            yield lambda pk=pk: _settle([pk])  # type: ignore[misc]


def _mark_processing(ids: Sequence[int]) -> None:
    status.mark_processing(Message.objects.filter(pk__in=ids))


def _mark_sent(ids: Sequence[int]) -> None:
    """Move messages to S; look closer where a report or an error came first."""
    if status.mark_sent(Message.objects.filter(pk__in=ids), now()) < len(ids):
        _settle(ids)


def _settle(ids: Sequence[int]) -> None:
    for message in Message.objects.filter(pk__in=ids):
        status.settle_unless_pending(message)
