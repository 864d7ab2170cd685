"""Storing a message with a transmission for each of its connections, or nothing."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, NamedTuple

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import QuerySet
from rapidsms.models import Connection

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, connection
from rapidsms_db_router.db.text import as_id, clean_json, clean_text, narrow_text
from rapidsms_db_router.engine import Recipient, engine
from rapidsms_db_router.limits import segments
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.models.message import dedup_key
from rapidsms_db_router.models.status import NO_RECIPIENTS
from rapidsms_db_router.storage import bulk
from rapidsms_db_router.storage.recipients import FEW, primary_key, recipients

logger = logging.getLogger(__name__)

#: An inbound message is a duplicate if the gateway has posted its like no longer ago than this.
DEDUP_WINDOW = datetime.timedelta(days=1)
#: Recipients named in one statement.
CHUNK = 5000
#: The largest number that the column holds.
MOST_SEGMENTS = 32_767
#: The width of the column.
LONGEST_EXTERNAL_ID = 1024


class Stored(NamedTuple):
    """A message as it was stored."""

    message: Message
    #: Its transmissions, if they are few.
    recipients: list[Recipient] | None
    #: The batch that was stored with it, if one was asked for.
    batch: Batch | None


def store(
    direction: str,
    connections: Any,
    text: Any,
    fields: Mapping[Any, Any] | None = None,
    batch: Batch | None = None,
    **columns: Any,
) -> Stored:
    """Store a message and a transmission for each of its connections, or nothing.

    What no database can hold is replaced, never refused. An inbound message that duplicates one
    stored within a day (same connections, external id and text) is not stored again.

    :param direction: ``"I"`` or ``"O"``.
    :param connections: as for :func:`.recipients.recipients`; each gets one transmission however
        often it is named. An iterator is walked once, and never held as a whole.
    :param text: the text.
    :param fields: the RapidSMS message's fields, ``external_id`` among them.
    :param batch: one for all transmissions, stored with them; they are few then.
    :param columns: further columns of the message.
    :returns: the stored message, or the one that this one duplicates.
    :raises InvalidConnection: as :func:`.recipients.recipients`.
    :raises TypeError: for fields that are no mapping.
    """
    found = connections if isinstance(connections, Iterator) else recipients(connections)
    if fields is not None and not isinstance(fields, Mapping):
        raise TypeError(f"fields is a {type(fields).__name__}; pass a dictionary.")
    stored_fields, lossy = clean_json({} if fields is None else dict(fields))
    external_id = as_id(stored_fields.get("external_id"))
    message = Message(
        direction=direction,
        text=clean_text(text),
        fields=stored_fields,
        external_id=external_id[:LONGEST_EXTERNAL_ID],
        **columns,
    )
    message.segments = min(segments.count(message.text), MOST_SEGMENTS)
    if direction == Direction.INCOMING:
        found = list(found)
        message.dedup_key = dedup_key(found, external_id, message.text)
        message.recover_at = lease()
    stored = _insert(message, found, batch)
    if stored.message is not message:
        logger.info("message_duplicate message=%s", stored.message.pk)
        return stored
    if lossy or message.text != text:
        logger.warning("message_cleaned message=%s", message.pk)
    if len(external_id) > LONGEST_EXTERNAL_ID:
        logger.warning("external_id_cut message=%s length=%s", message.pk, len(external_id))
    return stored


def _insert(message: Message, found: Iterable[Connection], batch: Batch | None) -> Stored:
    """Insert a message with its transmissions; return it, or the one that it duplicates."""
    few = None
    if isinstance(found, list) and 0 < len(found) <= FEW:
        few = {primary_key(each): each for each in found}.values()
    while True:
        try:
            with _transaction(message, few is not None and connection().vendor == "postgresql"):
                if few is not None:
                    return Stored(message, engine().insert(message, few, batch), batch)
                message.save(force_insert=True)
                count = _insert_transmissions(message, found)
                if not count and message.direction == Direction.OUTGOING:
                    message.status, message.error = Status.ERRORED, NO_RECIPIENTS
                    message.recover_at = None
                    message.save(update_fields=("status", "error", "recover_at", "updated"))
            return Stored(message, None, None)
        except IntegrityError:
            # most likely another process has just stored the same message
            message.pk = None
            original = _duplicated_by(message)
            if original is None:
                raise
            if original.date > now() - DEDUP_WINDOW:
                return Stored(original, None, None)
            # the key of a message that is too old to be duplicated is free again
            Message.objects.filter(pk=original.pk).update(dedup_key=None)
        except DatabaseError as err:
            message.pk = None
            narrowed = narrow_text(message.text)
            if narrowed == message.text or not _refuses_characters(err):
                raise
            message.text, message.external_id = narrowed, narrow_text(message.external_id)


def _transaction(message: Message, one_statement: bool) -> AbstractContextManager[None]:
    """Return the transaction, or the savepoint, that an insert needs.

    :param one_statement: whether it is one statement, which is a transaction by itself.
    """
    if not connection().in_atomic_block:
        return nullcontext() if one_statement else transaction.atomic(using=alias())
    # what may be stored otherwise after an error needs a savepoint, which is two statements
    needed = message.dedup_key is not None or connection().vendor != "postgresql"
    return transaction.atomic(using=alias(), savepoint=needed)


def _refuses_characters(err: DatabaseError) -> bool:
    """Whether MariaDB or MySQL refused a character: its tables may know no more than the BMP."""
    return bool(err.args) and err.args[0] == 1366


def _duplicated_by(message: Message) -> Message | None:
    if message.dedup_key is None:
        return None
    same = Message.objects.filter(dedup_key=message.dedup_key)
    # Under REPEATABLE READ what another has just committed shows to a locking read alone.
    with transaction.atomic(using=alias()):
        return same.first() or same.select_for_update().first()


def _insert_transmissions(message: Message, found: Iterable[Connection]) -> int:
    """Insert a transmission for each connection, once; return how many there are."""
    # what a union calls its columns differs from one Django to the next
    if isinstance(found, QuerySet) and not found.query.combinator:
        return bulk.insert_for_queryset(message, found)
    count, walk = 0, iter(found)
    while chunk := list(islice(walk, CHUNK)):
        ids = {primary_key(each) for each in chunk}
        count += bulk.insert_for_ids(message, sorted(ids))
    return count
