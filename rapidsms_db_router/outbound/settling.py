"""What follows the commit of a step: the statuses of messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, status
from rapidsms_db_router.models.message import MessageQuerySet
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound.lane import Turn

Job = Callable[[], None]


def jobs(turn: Turn) -> Iterator[Job]:
    """Yield what is to be done about the messages of a step; each may be done twice."""
    ended = {batch.message.pk: batch.message for batch in turn.gone}
    errored = {done.call.message.pk: done.call.message for done in turn.completions if done.failed}
    given_up = {done.call.message.pk for done in turn.completions if done.given_up}
    whole = (
        {batch.message.pk for batch in turn.gone if batch.whole and not batch.left}
        - errored.keys()
        - set(turn.unsettled)
    )
    claimed = {batch.message.pk: batch.message for batch in turn.claimed}
    if queued := [each for each in claimed.values() if each.status == "Q"]:
        yield lambda: _mark_processing(queued)
    for message in turn.expired:
        yield lambda message=message: discarding.discard(message, discarding.EXPIRED)  # type: ignore[misc]
    if errored:
        yield lambda: _mark_errored(errored.values())
    if given_up:
        yield lambda: status.mark_errored(Message.objects.filter(pk__in=given_up), given_up=True)
    for message in claimed.values():
        if message.status == "E":
            yield lambda message=message: status.clear_errors(message)  # type: ignore[misc]
    if whole:
        yield lambda: _mark_sent([ended[pk] for pk in sorted(whole)])
    if parts := [ended[pk] for pk in sorted(ended.keys() - whole)]:
        yield lambda: status.settle_unless_pending(parts)
    if others := set(turn.unsettled) - ended.keys():
        yield lambda: _settle(others)


# What is in memory follows: the project's signal receivers get it.


def _mark_processing(messages: Collection[Message]) -> None:
    status.mark_processing(_rows(messages))
    for message in messages:
        message.status = Status.PROCESSING


def _mark_errored(messages: Collection[Message]) -> None:
    status.mark_errored(_rows(messages), given_up=False)
    for message in messages:
        message.status, message.error = Status.ERRORED, status.SOME_ERRORED


def _mark_sent(messages: Collection[Message]) -> None:
    """Move messages to S; look closer where a report or an error came first."""
    moment = now()
    if status.mark_sent(Message, [each.pk for each in messages], moment) < len(messages):
        status.settle_unless_pending(messages)
        return
    for message in messages:
        message.status, message.sent, message.error = Status.SENT, moment, ""


def _rows(messages: Iterable[Message]) -> MessageQuerySet:
    rows: MessageQuerySet = Message.objects.filter(pk__in=[message.pk for message in messages])
    return rows


def _settle(ids: Collection[int]) -> None:
    status.settle_unless_pending(list(Message.objects.filter(pk__in=ids)))
