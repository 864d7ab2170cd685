"""Sending here and now, in the caller's thread: eager mode, and tasks that are called directly."""

from __future__ import annotations

from collections.abc import Collection

from rapidsms.models import Backend

from rapidsms_db_router.errors import TransmissionsFailed
from rapidsms_db_router.outbound.calls import Inline, Router
from rapidsms_db_router.outbound.completion import Completion
from rapidsms_db_router.outbound.failure import Failure
from rapidsms_db_router.outbound.lane import Lane
from rapidsms_db_router.outbound.sender import Sender

#: The longest pause between two steps, in seconds.
PAUSE = 0.1


def send_now(
    router: Router, message_id: int, backend: Backend, batches: Collection[int], *, at_once: bool
) -> TransmissionsFailed | None:
    """Send batches in the caller's thread, connection and transaction.

    :param router: whose backends are called.
    :param message_id: the message they are of.
    :param batches: primary keys.
    :param at_once: eager mode: limits do not count, and what fails is tried again at once, as often
        as it may be. Else there is one try.
    :returns: what to raise for callers that want to know, if recipients failed.
    """
    failures: dict[int, Failure] = {}

    def completed(done: Completion) -> None:
        for row in done.sent:
            failures.pop(row.id, None)
        failures.update((failure.row.id, failure) for failure in done.failed)

    sender = Sender(Inline(lambda: router), limited=not at_once, completed=completed)
    lane = sender.lanes[backend.pk] = Lane(backend, only=batches)
    while True:
        sender.step()
        if sender.is_done and (lane.is_blocked or not lane.more):
            break
        sender.wait(min(sender.next_step(), PAUSE))
    sender.close()
    if not failures:
        return None
    first = next(iter(failures.values())).error
    error = TransmissionsFailed(
        f"Message {message_id}: backend {backend.pk} failed"
        f" {len(failures)} transmissions ({type(first).__name__}).",
        failed_identities=[failure.row.identity for failure in failures.values()],
    )
    error.__cause__ = first
    return error
