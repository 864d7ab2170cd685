"""Following what the old router has changed since an earlier run has copied it.

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
from rapidsms_db_router.moving_in.dialects import dialect
from rapidsms_db_router.moving_in.tables import Span

#: Rows that are followed in one transaction.
CHUNK = 500


def follow_transmissions(span: Span) -> int:
    """Follow the statuses of a span's transmissions; return how many had changed."""
    changed = rows_of(
        f"SELECT n.id, n.message_id FROM {table(Transmission)} n"
        " JOIN db_transmission o ON o.id = n.id"
        f" JOIN {table(Message)} m ON m.id = n.message_id"
        f" WHERE n.id BETWEEN {span.first} AND {span.last}"
        f" AND o.id BETWEEN {span.first} AND {span.last} AND {_may_follow()}"
    )
    for start in range(0, len(changed), CHUNK):
        some = dict(changed[start : start + CHUNK])
        insist(partial(_follow, list(some), sorted(set(some.values()))))
    return len(changed)


def _may_follow() -> str:
    """Return the condition that an old transmission ``o`` has left what ``n`` was copied as."""
    copied = f"n.status = '{Status.QUEUED}' OR n.status = '{Status.ERRORED}'"
    copied += f" AND n.error = '{mapping.FAILED_BEFORE}'"
    return (
        f"n.status <> {mapping.LETTER} AND"
        # nothing of the message is under way here
        f" (m.recover_at IS NULL AND m.claim_token IS NULL AND ({copied})"
        f" OR n.status = '{Status.SENT}' AND o.status = '{Status.DELIVERED}')"
    )


def _follow(ids: list[int], messages: list[int]) -> None:
    words = dialect()
    columns = mapping.of_transmission(words)
    named = ", ".join(map(str, ids))
    of_messages = Message.objects.filter(among(messages))
    with transaction.atomic(using=alias()):
        of_messages.update(updated=now())  # locked, before transmissions are
        changes = ("status", "updated", "sent", "delivered", "error", "attempts")
        for table_name, old, names, keys in (
            (table(Transmission), "db_transmission", changes, named),
            (table(Message), "db_message", changes[1:4], ", ".join(map(str, messages))),
        ):
            written = ", ".join(
                f"{name} = COALESCE((SELECT {columns[name]} FROM {old} o"
                f" WHERE o.id = {table_name}.id), {name})"
                for name in names
            )
            run(f"UPDATE {table_name} SET {written} WHERE id IN ({keys})")
        status.settle_locked(list(of_messages), now())
        status.mark_queued(of_messages.filter(recover_at=None))
        failed = of_messages.filter(direction=Direction.INCOMING, status=Status.ERRORED, error="")
        failed.update(error=mapping.FAILED_BEFORE)


def follow_answers(span: Span) -> int:
    """Follow which message is an answer to which; return how many had changed.

    The old router stores that in a transaction of its own, after the message.
    """
    return insist(partial(_follow_answers, span))


def _follow_answers(span: Span) -> int:
    changed = rows_of(
        f"SELECT n.id FROM {table(Message)} n JOIN db_message o ON o.id = n.id"
        f" JOIN {table(Message)} answered ON answered.id = o.in_response_to_id"
        f" WHERE n.id BETWEEN {span.first} AND {span.last}"
        f" AND o.id BETWEEN {span.first} AND {span.last} AND n.in_response_to_id IS NULL"
    )
    ids = [pk for (pk,) in changed]
    for start in range(0, len(ids), CHUNK):
        named = ", ".join(map(str, ids[start : start + CHUNK]))
        run(
            f"UPDATE {table(Message)} SET in_response_to_id = (SELECT o.in_response_to_id"
            f" FROM db_message o WHERE o.id = {table(Message)}.id) WHERE id IN ({named})"
        )
    return len(ids)
