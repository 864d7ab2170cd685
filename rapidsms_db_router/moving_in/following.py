"""Following what the old router has changed since a row was copied.

What is under way here, or has ended here, is left alone: a row is followed only from where the copy
has left it. So a row that was copied as held may become sent, and none goes back.
"""

from __future__ import annotations

from functools import partial

from django.db import transaction

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, rows_of, run, table
from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Message, Transmission, status
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.moving_in import mapping
from rapidsms_db_router.moving_in.dialects import Dialect, dialect
from rapidsms_db_router.moving_in.tables import Span

#: Rows that are followed in one transaction.
CHUNK = 500
#: Nothing of the message ``m`` is under way here.
IDLE = "m.recover_at IS NULL AND m.claim_token IS NULL"


def follow_transmissions(span: Span) -> int:
    """Follow the statuses of a span's transmissions; return how many had changed."""
    of_copy = (
        f"n.status = '{Status.QUEUED}'"
        f" OR n.status = '{Status.ERRORED}' AND n.error = '{mapping.FAILED_BEFORE}'"
    )
    changed = rows_of(
        f"SELECT n.status, n.id FROM {table(Transmission)} n"
        " JOIN db_transmission o ON o.id = n.id"
        f" JOIN {table(Message)} m ON m.id = n.message_id"
        f" WHERE n.id BETWEEN {span.first} AND {span.last}"
        f" AND o.id BETWEEN {span.first} AND {span.last} AND n.status <> {mapping.LETTER}"
        f" AND ({IDLE} AND ({of_copy})"
        f" OR n.status = '{Status.SENT}' AND o.status = '{Status.DELIVERED}')"
    )
    columns = mapping.of_transmission(dialect())
    names = "status", "updated", "sent", "delivered", "error", "attempts"
    for left in {letter for letter, _ in changed}:
        ids = [pk for letter, pk in changed if letter == left]
        for start in range(0, len(ids), CHUNK):
            written = _from_old(Transmission, "db_transmission", {n: columns[n] for n in names})
            named = ", ".join(map(str, ids[start : start + CHUNK]))
            # a report may have come meanwhile
            update = f"UPDATE {table(Transmission)} SET {written} WHERE id IN ({named})"
            insist(partial(run, f"{update} AND status = '{left}'"))
    return len(changed)


def follow_messages(span: Span) -> int:
    """Bring a span's messages up to date with their transmissions; return how many had changed.

    A message is copied before its transmissions, and the old router may have gone on in between.
    """
    words = dialect()
    counts = mapping.counts(
        words, f"o.message_id BETWEEN {span.first} AND {span.last}", Transmission
    )
    changed = rows_of(
        f"SELECT m.id FROM {table(Message)} m JOIN db_message o ON o.id = m.id"
        f" LEFT JOIN ({counts}) c ON c.message_id = m.id"
        f" WHERE m.id BETWEEN {span.first} AND {span.last}"
        f" AND o.id BETWEEN {span.first} AND {span.last}"
        f" AND {IDLE} AND m.status <> {mapping.status_of_message('m.direction')}"
    )
    ids = [pk for (pk,) in changed]
    for start in range(0, len(ids), CHUNK):
        insist(partial(_follow_messages, ids[start : start + CHUNK], words))
    return len(ids) + insist(partial(_follow_answers, span))


def _follow_messages(ids: list[int], words: Dialect) -> None:
    written = _from_old(Message, "db_message", mapping.dates(words, "updated", "sent", "delivered"))
    messages = Message.objects.filter(among(ids))
    with transaction.atomic(using=alias()):
        # also a lock, as in all that settles
        run(f"UPDATE {table(Message)} SET {written} WHERE id IN ({', '.join(map(str, ids))})")
        status.settle_locked(list(messages), now())
        status.mark_queued(messages.filter(recover_at=None))
        failed = messages.filter(direction=Direction.INCOMING, status=Status.ERRORED, error="")
        failed.update(error=mapping.FAILED_BEFORE)


def _follow_answers(span: Span) -> int:
    """Follow which message is an answer to which; return how many had changed.

    The old router stores that in a transaction of its own, after the message.
    """
    changed = rows_of(
        f"SELECT n.id FROM {table(Message)} n JOIN db_message o ON o.id = n.id"
        f" JOIN {table(Message)} answered ON answered.id = o.in_response_to_id"
        f" WHERE n.id BETWEEN {span.first} AND {span.last}"
        f" AND o.id BETWEEN {span.first} AND {span.last} AND n.in_response_to_id IS NULL"
    )
    ids = [pk for (pk,) in changed]
    written = _from_old(Message, "db_message", {"in_response_to_id": "o.in_response_to_id"})
    for start in range(0, len(ids), CHUNK):
        named = ", ".join(map(str, ids[start : start + CHUNK]))
        run(f"UPDATE {table(Message)} SET {written} WHERE id IN ({named})")
    return len(ids)


def _from_old(model: type[Message | Transmission], old: str, columns: dict[str, str]) -> str:
    """Return what an UPDATE sets, from the old row of the same key; NULL changes nothing."""
    return ", ".join(
        f"{name} = COALESCE((SELECT {value} FROM {old} o WHERE o.id = {table(model)}.id), {name})"
        for name, value in columns.items()
    )
