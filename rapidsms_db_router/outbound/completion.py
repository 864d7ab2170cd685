"""Writing down how calls ended."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from django.dispatch import Signal

from rapidsms_db_router import backoff, conf, reports, signals
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import Recipient, engine
from rapidsms_db_router.limits.circuit import SHORTEST_OPEN
from rapidsms_db_router.models import Message, Part, Transmission
from rapidsms_db_router.outbound.calls import Call, Executor
from rapidsms_db_router.outbound.causes import Cause
from rapidsms_db_router.outbound.failure import Failure
from rapidsms_db_router.outbound.response import SendResponse

logger = logging.getLogger(__name__)


@dataclass
class Completion:
    """What becomes of each recipient of one call that has ended."""

    call: Call
    response: SendResponse
    #: Those that the gateway took.
    sent: list[Recipient] = field(default_factory=list)
    #: Those that are tried again at a date: E.
    retried: list[Failure] = field(default_factory=list)
    #: Those that are given up: E.
    given_up: list[Failure] = field(default_factory=list)
    #: Those that go back to Q; their try does not count.
    requeued: list[Recipient] = field(default_factory=list)
    #: Whether those are to be called again at once, in two halves.
    divided: bool = False
    #: In how many seconds what is tried again is due.
    retry_in: float = 0.0
    #: When that is; known once it is written down.
    next_try: datetime.datetime | None = None

    @property
    def failed(self) -> list[Failure]:
        """Return all recipients that are E now."""
        return [*self.retried, *self.given_up]


def decide(
    call: Call,
    response: SendResponse,
    *,
    is_open: bool,
    max_retries: int,
    divides: bool,
    at_once: bool = False,
) -> Completion:
    """Return what follows from a response: a pure function, but for the jitter of the backoff.

    :param is_open: whether the circuit of the backend is not closed after this call.
    :param max_retries: tries that follow the first.
    :param divides: whether a refused call may be divided.
    :param at_once: whether what is tried again is due now.
    """
    done = Completion(call, response, sent=list(response.sent))
    if response.is_divisible and divides:
        done.requeued, done.divided = list(call.rows), True
        return done
    resend = conf.after_crash(call.backend_name) == conf.RESEND
    for failure in response.failed:
        if response.is_whole and not at_once and _is_lines(call, failure, is_open):
            done.requeued.append(failure.row)
        elif (
            failure.is_permanent
            or failure.row.attempts > max_retries
            or (failure.cause is Cause.UNKNOWN and not resend)
        ):
            done.given_up.append(failure)
        else:
            done.retried.append(failure)
    attempts = max((f.row.attempts for f in done.retried), default=1)
    if (done.retried or done.requeued) and not at_once:
        wait = backoff.delay(attempts, conf.retry_backoff())
        shortest = SHORTEST_OPEN if done.requeued else 0.0
        done.retry_in = max(wait, response.retry_after or 0.0, shortest)
    return done


def _is_lines(call: Call, failure: Failure, is_open: bool) -> bool:
    """Return whether a failed call is the line's fault, so that the try does not count."""
    if failure.cause is Cause.ACCOUNT:
        return is_open
    if failure.cause is Cause.OUTAGE and failure.row.has_failed and failure.may_be_recipients:
        # The same recipient again, while the gateway is called as usual. That the circuit is open
        # tells nothing if it was this call that asked for it.
        return call.trial or (is_open and failure.retry_after is None)
    return failure.cause in (Cause.NOT_CALLED, Cause.OUTAGE)


def write(completions: Iterable[Completion], held: Collection[int]) -> list[int]:
    """Store what became of the recipients of calls.

    :param held: the batches that the sender still holds. Of others only successes are stored:
        recovery has decided about the rest.
    :returns: the messages of which not all that was sent could be marked, as when a report came
        first.
    """
    moment, statements = now(), engine()
    sent: list[int] = []
    messages: set[int] = set()
    external_ids: dict[int, str] = {}
    part_ids: dict[int, list[str]] = {}
    requeued: dict[str | None, list[int]] = {}
    errored: dict[int, tuple[str, datetime.datetime | None]] = {}
    for done in completions:
        sent += (row.id for row in done.sent)
        if done.sent:
            messages.add(done.call.message.pk)
        external_ids |= done.response.external_ids
        part_ids |= done.response.part_ids
        if done.call.batch_id not in held:
            continue
        if done.requeued:
            reason = None if done.divided else done.response.failed[0].summary
            requeued.setdefault(reason, []).extend(row.id for row in done.requeued)
        done.next_try = moment + datetime.timedelta(seconds=done.retry_in)
        for failures, date in ((done.retried, done.next_try), (done.given_up, None)):
            for failure in failures:
                errored[failure.row.id] = failure.reason, date
    marked = statements.mark_sent(sent, moment, external_ids) if sent else 0
    if marked == len(sent):
        for pk in sent:
            external_ids.pop(pk, None)
    if external_ids:
        statements.note_external_ids(external_ids)
    if part_ids:
        Part.objects.replace(part_ids)
    for reason, ids in requeued.items():
        statements.requeue(ids, reason)
    if errored:
        statements.mark_errored(errored)
    return sorted(messages) if marked < len(sent) else []


def follow_early_reports(completions: Iterable[Completion]) -> None:
    """Follow the delivery reports that came before the ids they speak of; after the commit."""
    backends: dict[int, dict[str, list[int]]] = {}
    for done in completions:
        of_id = backends.setdefault(done.call.backend_id, {})
        for pk, external_id in done.response.external_ids.items():
            for each in done.response.part_ids.get(pk, [external_id]):
                of_id.setdefault(each, []).append(pk)
    for backend_id, ids in backends.items():
        reports.follow_early(ids, backend_id)


def announce(completions: Iterable[Completion], executor: Executor) -> None:
    """Log how calls ended, and tell the project's own code, in a thread of the executor."""
    completions = list(completions)
    sent: dict[int, tuple[Call, list[int]]] = {}
    for done in completions:
        if done.sent:
            _, ids = sent.setdefault(done.call.batch_id, (done.call, []))
            ids.extend(row.id for row in done.sent)
    for call, ids in sent.values():
        logger.info(
            "batch_sent message=%s backend=%s rows=%s", call.message.pk, call.backend_id, len(ids)
        )
        _tell(executor, signals.transmissions_sent, call.message, call.backend_name, ids)
    for done in completions:
        if done.requeued:
            _log_requeued(done)
        for failures, date in ((done.retried, done.next_try), (done.given_up, None)):
            if failures:
                _announce_errored(done, failures, date, executor)


def _log_requeued(done: Completion) -> None:
    logger.warning(
        "batch_requeued message=%s backend=%s rows=%s",
        done.call.message.pk,
        done.call.backend_id,
        len(done.requeued),
    )


def _announce_errored(
    done: Completion,
    failures: list[Failure],
    next_try: datetime.datetime | None,
    executor: Executor,
) -> None:
    call, first = done.call, failures[0]
    logger.error(
        "batch_errored message=%s backend=%s rows=%s error=%s next_try=%s",
        call.message.pk,
        call.backend_id,
        len(failures),
        type(first.error).__name__,
        next_try and next_try.isoformat(timespec="seconds"),
    )
    logger.debug(
        "batch_errored message=%s backend=%s",
        call.message.pk,
        call.backend_id,
        exc_info=first.error,
    )
    by_reason: dict[str, list[int]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.row.id)
    for reason, ids in by_reason.items():
        told = {"error": reason, "next_try": next_try}
        _tell(executor, signals.transmissions_errored, call.message, call.backend_name, ids, **told)


def _tell(
    executor: Executor,
    signal: Signal,
    message: Message,
    backend_name: str,
    ids: list[int],
    **told: object,
) -> None:
    if not signal.has_listeners(Transmission):
        return
    executor.run(
        lambda: signals.tell(
            signal,
            sender=Transmission,
            message=message,
            backend_name=backend_name,
            transmission_ids=ids,
            **told,
        )
    )
