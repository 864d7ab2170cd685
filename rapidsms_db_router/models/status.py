"""The status of an outbound message: the only module that writes it after it is stored.

A status follows from the statuses of the message's transmissions. To count those of a million
recipients takes long, so each function says when it counts.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models, transaction

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, run, table
from rapidsms_db_router.models.keys import among

if TYPE_CHECKING:
    from rapidsms_db_router.models.message import Message, MessageQuerySet

NO_RECIPIENTS = "no recipients"
#: The error of a message that is not done yet; settling counts how many there are.
SOME_ERRORED = "some transmissions errored"
#: The statuses of this many transmissions can be counted after every report.
COUNTABLE = 1000
#: Transmissions of one message are stored together: most often the next is no further away.
NEAR = 1000


def derive(direction: str, letters: Collection[str]) -> Status:
    """Return the status of a message from those of its transmissions.

    Outbound: E if any transmission is E, else P if any is neither S nor D, else S if any is S,
    else D; without transmissions E. Inbound: E if any is E, else Q until all are R.

    :param letters: the statuses of its transmissions, each at least once.
    """
    found = set(letters)
    if Status.ERRORED in found:
        return Status.ERRORED
    if direction == Direction.INCOMING:
        return Status.RECEIVED if found <= {Status.RECEIVED} else Status.QUEUED
    if not found:
        return Status.ERRORED
    if not found <= {Status.SENT, Status.DELIVERED}:
        return Status.PROCESSING
    return Status.SENT if Status.SENT in found else Status.DELIVERED


def current(message: Message) -> Status:
    """Return the status that :func:`settle` would store; counts."""
    return derive(message.direction, _counts([message.pk])[0][message.pk].keys())


def settle(message: Message) -> str:
    """Bring a message's status up to date, and return its letter; counts."""
    settle_all([message])
    return message.status


def settle_all(messages: Collection[Message]) -> None:
    """Bring the statuses of messages up to date; counts.

    Two senders that finish together cannot leave a message behind: the rows are locked first. The
    transmissions are read by a later statement, which sees all that was committed before the locks
    were had.

    :param messages: at least one.
    """
    moment = now()
    with _together():
        # Locked by a write: SELECT FOR UPDATE does not exist on SQLite, where a transaction that
        # reads before it writes may be refused.
        if _rows(messages).update(updated=moment):  # else deleted meanwhile
            settle_locked(messages, moment)
    for message in messages:
        message.updated = moment


def settle_locked(messages: Collection[Message], moment: datetime.datetime) -> None:
    """Bring the statuses of messages up to date whose rows the transaction has locked; counts.

    A constant number of statements, and one more for each outcome that some of them share.

    :param moment: now.
    """
    ids = [message.pk for message in messages]
    rows = _rows(messages)
    counts, given_up = _counts(ids)
    over = [pk for pk in ids if not counts[pk].keys() & {Status.QUEUED, Status.PROCESSING}]
    if over:
        batches = _model("Batch").filter(among(over, "message"))
        over = sorted(set(over) - set(batches.values_list("message", flat=True)))
    dates = {pk: dated for pk, *dated in rows.values_list("pk", "sent", "delivered")}
    outcomes: dict[tuple[Any, ...], list[int]] = {}
    for message in messages:
        if message.pk not in dates:
            continue
        written: dict[str, Any] = {"status": derive(message.direction, counts[message.pk].keys())}
        if message.direction == Direction.OUTGOING:
            written |= {"error": _error(counts[message.pk]), "given_up": message.pk in given_up}
            message.sent, message.delivered = dates[message.pk]
            # each date is that of the first time, whatever is reported later
            if written["status"] in (Status.SENT, Status.DELIVERED) and message.sent is None:
                written["sent"] = moment
            if written["status"] == Status.DELIVERED and message.delivered is None:
                written["delivered"] = moment
        if message.pk in over:
            # what is sent again later was not paused
            written |= {"recover_at": None, "paused_at": None}
        for column, value in written.items():
            setattr(message, column, value)
        outcomes.setdefault(tuple(written.items()), []).append(message.pk)
    for outcome, same in outcomes.items():
        rows.filter(among(same)).update(**dict(outcome))


def settle_unless_pending(messages: Collection[Message]) -> None:
    """Like :func:`settle_all`, of those that have no batch left; of others nothing is counted.

    Of two batches that end at the same time, the later one sees no other: a sender calls this after
    it has committed the end of its own.
    """
    batches = _model("Batch").filter(among([message.pk for message in messages], "message"))
    pending = set(batches.values_list("message", flat=True))
    if over := [message for message in messages if message.pk not in pending]:
        settle_all(over)


def mark_queued(messages: MessageQuerySet) -> int:
    """Move outbound messages from P back to Q: they are stored, and no worker knows of them."""
    return messages.filter(status=Status.PROCESSING).update(status=Status.QUEUED)


def mark_processing(messages: MessageQuerySet) -> int:
    """Move outbound messages from Q to P: a sender has claimed a batch of theirs."""
    return messages.filter(status=Status.QUEUED).update(status=Status.PROCESSING)


def mark_sent(messages: type[Message], ids: Collection[int], moment: datetime.datetime) -> int:
    """Move outbound messages, whose transmissions are all known to be S, to S; return how many.

    What a report or an error has moved first is left alone. By hand, since it runs for every reply.

    :param messages: the model.
    :param ids: primary keys.
    """
    return run(
        f"UPDATE {table(messages)} SET status = 'S', sent = %(moment)s, updated = %(moment)s,"
        " error = '', recover_at = NULL, paused_at = NULL"
        f" WHERE id IN ({', '.join(str(int(pk)) for pk in ids)}) AND status IN ('Q', 'P')",
        moment=moment,
    )


def mark_errored(messages: MessageQuerySet, *, given_up: bool) -> None:
    """Move outbound messages to E: a transmission of theirs has just become E.

    :param given_up: whether no try of that transmission follows.
    """
    if given_up:
        messages.filter(given_up=False).update(given_up=True)
    messages.exclude(status=Status.ERRORED).update(
        status=Status.ERRORED, error=SOME_ERRORED, updated=now()
    )


def clear_errors(message: Message) -> None:
    """Move a message from E to P if none of its transmissions is E: they are being tried again."""
    rows = _rows([message]).filter(status=Status.ERRORED)
    with _together():
        # locked first, as in settle()
        if not rows.update(updated=now()) or message.batches.filter(errored=True).exists():
            return
        if rows.filter(given_up=False).update(status=Status.PROCESSING, error=""):
            message.status, message.error = Status.PROCESSING, ""


def follow_delivered(message: Message, ids: Collection[int]) -> None:
    """Bring the status up to date after some transmissions were delivered.

    The message remembers its first transmission that is not delivered. Only a report about that
    transmission has the next one looked for: in all, each transmission is looked at once.

    :param ids: primary keys of those that were delivered.
    """
    rows = _rows([message])
    with _together():
        if not rows.update(updated=now()):  # locked, as in settle()
            return
        known = rows.values_list("undelivered", flat=True)[0]
        if known is not None and known not in ids:
            return
        following = _undelivered_after(message, known)
        rows.update(undelivered=following)
        if following is None:
            settle(message)


def follow_moved(message: Message) -> None:
    """Bring the status up to date after a report moved a transmission.

    At once up to :data:`COUNTABLE` transmissions; of more, recovery counts soon how many are E.
    """
    letters = list(message.transmissions.order_by().values_list("status")[: COUNTABLE + 1])
    if len(letters) <= COUNTABLE:
        settle(message)
        return
    soon = now() + datetime.timedelta(seconds=conf.recovery_interval())
    rows = _rows([message])
    rows.filter(recover_at__isnull=True).update(recover_at=soon)
    if message.transmissions.filter(status=Status.ERRORED).exists():
        mark_errored(rows, given_up=True)


def _together() -> transaction.Atomic:
    # Without a savepoint: of a row that a transaction changes outside of one and inside, PostgreSQL
    # does not notice that old versions are of no use, and looks through all of them.
    return transaction.atomic(using=alias(), savepoint=False)


def _rows(messages: Collection[Message]) -> MessageQuerySet:
    model = type(next(iter(messages)))
    rows: MessageQuerySet = model._base_manager.filter(  # type: ignore[assignment]
        among([message.pk for message in messages])
    )
    return rows


def _model(name: str) -> models.QuerySet[Any]:
    # by name: the models import this module
    rows: models.QuerySet[Any] = apps.get_model("rapidsms_db_router", name)._base_manager.all()
    return rows


def _counts(ids: Collection[int]) -> tuple[dict[int, dict[str, int]], set[int]]:
    """Return each message's transmissions by status; and the messages with some given up."""
    final = models.Q(status=Status.ERRORED, next_try__isnull=True)
    rows = _model("Transmission").filter(among(ids, "message")).order_by()
    counted = rows.values_list("message", "status").annotate(
        n=models.Count("pk"), of=models.Count("pk", filter=final)
    )
    counts: dict[int, dict[str, int]] = {pk: {} for pk in ids}
    given_up = set()
    for pk, status, n, final_ones in counted:
        counts[pk][status] = n
        if final_ones:
            given_up.add(pk)
    return counts, given_up


def _error(counts: dict[str, int]) -> str:
    if not counts:
        return NO_RECIPIENTS
    errored = counts.get(Status.ERRORED, 0)
    return f"{errored} of {sum(counts.values())} transmissions errored" if errored else ""


def _undelivered_after(message: Message, pk: int | None) -> int | None:
    """Return the first of its transmissions after one that is not delivered, if any."""
    rest = message.transmissions.exclude(status=Status.DELIVERED).values_list("pk", flat=True)
    if pk is not None:
        near = rest.filter(pk__gt=pk, pk__lte=pk + NEAR).order_by("pk").first()
        if near is not None:
            return near
    # By an expression: by the key itself databases walk along that of the whole table.
    return rest.filter(pk__gt=pk or 0).order_by(models.F("pk") + 0).first()
