"""The use cases: store a message, process an inbound one, send a batch, try errored ones again.

Nothing here knows of Celery: what is to happen later is returned to, or passed in by, the caller.
"""

from __future__ import annotations

import datetime
import logging
import traceback
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from django.db import DatabaseError, IntegrityError, connections, router, transaction
from django.db.models import QuerySet
from django.dispatch import Signal
from django.utils.timezone import now
from rapidsms.models import Backend, Connection

from rapidsms_db_router import conf, retries, signals
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clean import clean_json, clean_text, narrow_text
from rapidsms_db_router.errors import (
    BackendNotConfigured,
    InvalidConnection,
    NoRecipients,
    TransmissionsFailed,
)
from rapidsms_db_router.models import NO_RECIPIENTS, Message, Transmission, repetition_key
from rapidsms_db_router.querysets import Taken

logger = logging.getLogger(__name__)

#: An inbound message is a repetition if its like came no longer ago than this.
REPETITION_WINDOW = datetime.timedelta(days=1)
#: Rows in one INSERT.
INSERT_SIZE = 1000
#: More of an error than this helps nobody.
LONGEST_ERROR = 10_000
#: The width of the column.
LONGEST_EXTERNAL_ID = 1024


class Router(Protocol):
    """What this module asks of a router."""

    def create_message_from_dbm(
        self, dbm: Message, fields: dict[str, Any] | None = None, fetch_connections: bool = True
    ) -> Any: ...

    def process_incoming(self, msg: Any) -> None: ...

    def send_to_backend(
        self, backend_name: str, id_: Any, text: str, identities: list[str], context: dict[str, Any]
    ) -> None: ...


def alias() -> str:
    """Return the database that messages are written to."""
    return router.db_for_write(Message)


# Storing


def recipients(given: Any) -> list[Connection] | QuerySet[Connection]:
    """Return connections in a form that may be walked more than once.

    :param given: a QuerySet, a list, any other iterable, or one ``Connection``.
    :returns: the QuerySet as it is; anything else as a list.
    :raises InvalidConnection: for what is no connection, or not saved.
    """
    if isinstance(given, QuerySet):
        if not issubclass(given.model, Connection):
            raise InvalidConnection(
                f"A QuerySet of {given.model.__name__} holds no recipients; pass Connections."
            )
        return given
    found = list(given) if isinstance(given, Iterable) else [given]
    for connection in found:
        _primary_key(connection)
    return found


def _primary_key(connection: Any) -> Any:
    if not isinstance(connection, Connection):
        raise InvalidConnection(f"{connection!r} is no rapidsms.models.Connection.")
    if connection.pk is None:
        raise InvalidConnection(f"{connection!r} is not saved; save it before it is used.")
    return connection.pk


def store(
    direction: str, connections: Any, text: Any, fields: dict[Any, Any] | None = None
) -> Message:
    """Store a message and a transmission for each of its connections, all Q, or nothing.

    What no database can hold is replaced, never refused. An inbound message that repeats one
    stored within a day (same connections, external id and text) is not stored again.

    :param direction: ``"I"`` or ``"O"``.
    :param connections: as for :func:`recipients`; each gets one transmission however often it
        is named.
    :param text: the text.
    :param fields: the RapidSMS message's fields, ``external_id`` among them.
    :returns: the stored message, or the one that this one repeats.
    :raises InvalidConnection: as :func:`recipients`.
    """
    found = recipients(connections)
    stored_fields, lossy = clean_json(fields or {})
    external_id = stored_fields.get("external_id")
    external_id = "" if external_id is None else clean_text(external_id)
    message = Message(
        direction=direction,
        text=clean_text(text),
        fields=stored_fields,
        external_id=external_id[:LONGEST_EXTERNAL_ID],
    )
    if direction == Direction.INCOMING:
        message.repetition_key = repetition_key(found, external_id, message.text)
    stored = _insert(message, found)
    if stored is not message:
        logger.info("message_repeated message=%s", stored.pk)
        return stored
    if lossy or message.text != text:
        logger.warning("message_cleaned message=%s", message.pk)
    if len(external_id) > LONGEST_EXTERNAL_ID:
        logger.warning("external_id_cut message=%s length=%s", message.pk, len(external_id))
    return message


def _insert(message: Message, found: list[Connection] | QuerySet[Connection]) -> Message:
    """Insert a message with its transmissions; return it, or the one that it repeats."""
    while True:
        try:
            with transaction.atomic(using=alias()):
                message.save(force_insert=True)
                count = _insert_transmissions(message, found)
                if not count and message.direction == Direction.OUTGOING:
                    message.status, message.error = Status.ERRORED, NO_RECIPIENTS
                    message.save(update_fields=("status", "error", "updated"))
            return message
        except IntegrityError:
            # most likely another process has just stored the same message
            message.pk = None
            original = _repeated_by(message)
            if original is None:
                raise
            if original.date > now() - REPETITION_WINDOW:
                return original
            # the key of a message that is too old to be repeated is free again
            Message.objects.filter(pk=original.pk).update(repetition_key=None)
        except DatabaseError as err:
            message.pk = None
            narrowed = narrow_text(message.text)
            if narrowed == message.text or not _refuses_characters(err):
                raise
            message.text, message.external_id = narrowed, narrow_text(message.external_id)


def _refuses_characters(err: DatabaseError) -> bool:
    """Whether MariaDB or MySQL refused a character: its tables may know no more than the BMP."""
    return bool(err.args) and err.args[0] == 1366


def _repeated_by(message: Message) -> Message | None:
    if message.repetition_key is None:
        return None
    same = Message.objects.filter(repetition_key=message.repetition_key)
    # Under REPEATABLE READ what another has just committed shows to a locking read alone.
    with transaction.atomic(using=alias()):
        return same.first() or same.select_for_update().first()


def _insert_transmissions(message: Message, found: list[Connection] | QuerySet[Connection]) -> int:
    """Insert a transmission for each connection, once; return how many there are."""
    connections = found.iterator(INSERT_SIZE) if isinstance(found, QuerySet) else found
    unique = iter(dict.fromkeys(_primary_key(connection) for connection in connections))
    count = 0
    while chunk := list(islice(unique, INSERT_SIZE)):
        Transmission.objects.bulk_create(
            Transmission(message=message, connection_id=connection_id) for connection_id in chunk
        )
        count += len(chunk)
    return count


# Inbound


class ClaimLost(Exception):
    """Another process has taken over what this one was working on."""


def process_inbound(router: Router, message_id: int, fields: dict[str, Any] | None = None) -> None:
    """Run the apps on a stored inbound message and store their replies; it ends R or E.

    Ends quietly if the message is gone, processed, or held by another.

    :param router: whose ``process_incoming`` does the work.
    :param fields: used where the stored message has none.
    """
    claim = Message.objects.take_inbound(message_id)
    dbm = Message.objects.filter(pk=message_id).first() if claim else None
    if claim is None or dbm is None:
        logger.info("message_not_taken message=%s", message_id)
        return
    try:
        try:
            msg = router.create_message_from_dbm(dbm, dbm.fields or fields)
            if not msg.connections:
                raise NoRecipients("no connection left: deleted before the apps could run")
            router.process_incoming(msg)
            logger.info("message_received message=%s", message_id)
        except Exception as exc:
            if isinstance(exc, ClaimLost):
                raise
            error = describe(exc) + "\n\n" + "".join(traceback.format_exception(exc))
            with transaction.atomic(using=alias()):
                _finish_inbound(dbm, claim, Status.ERRORED, _storable(error))
            logger.error("message_errored message=%s error=%s", message_id, type(exc).__name__)
            logger.debug("message_errored message=%s", message_id, exc_info=True)
    except ClaimLost:
        logger.warning("claim_lost message=%s", message_id)
        return
    signals.tell(signals.message_processed, sender=Message, message=dbm)


@contextmanager
def receiving(dbm: Message | None) -> Iterator[None]:
    """Store in one transaction that a message is R and, in the body, its replies.

    :param dbm: the message as :func:`process_inbound` holds it; one that nobody holds is left
        as it is.
    :raises ClaimLost: if another has taken it over; nothing is stored then.
    """
    with transaction.atomic(using=alias()):
        if dbm is not None and dbm.claim is not None:
            # first, since on SQLite a transaction that reads before it writes may be refused
            _finish_inbound(dbm, dbm.claim, Status.RECEIVED)
        yield


def _finish_inbound(dbm: Message, claim: uuid.UUID, status: Status, error: str = "") -> None:
    if not Message.objects.finish_inbound(dbm.pk, claim, status, error):
        raise ClaimLost
    Transmission.objects.filter(message=dbm).update(status=status, updated=now())
    dbm.status, dbm.error = status, error


@contextmanager
def contained() -> Iterator[None]:
    """Keep a database error in the body from spoiling a transaction around it."""
    if connections[alias()].in_atomic_block:
        with transaction.atomic(using=alias()):
            yield
    else:
        yield


def describe(exc: BaseException) -> str:
    """Return an exception's class and text, fit to be stored; not to be logged."""
    try:
        said = str(exc)
    except Exception:
        said = "(no text)"
    return _storable(f"{type(exc).__name__}: {said}" if said else type(exc).__name__)


def _storable(error: str) -> str:
    return narrow_text(clean_text(error))[:LONGEST_ERROR]


# Outbound


@dataclass(frozen=True)
class Failure:
    """What a batch leaves to be done: who failed, and whether and when to try them again."""

    error: TransmissionsFailed
    #: Transmissions to try again, and in how many seconds; none if all were given up.
    retry_ids: list[int]
    retry_in: float


def send_batch(
    router: Router,
    backend_id: int,
    message_id: int,
    ids: Collection[int],
    *,
    retry_at_once: bool = False,
) -> Failure | None:
    """Send what is to be sent of a batch; each row ends S or E.

    Ends quietly if message or backend are gone, or if no row of the batch is to be sent.

    :param router: whose ``send_to_backend`` does the work.
    :param ids: primary keys of transmissions of one message to one backend.
    :param retry_at_once: make the next try due now, for those who cannot wait.
    :returns: ``None`` if nothing failed.
    """
    dbm = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING).first()
    if dbm is None:
        logger.info("message_gone message=%s", message_id)
        return None
    backend = Backend.objects.filter(pk=backend_id).first()
    claim, batch = Transmission.objects.take(message_id, ids) if backend else (None, [])
    if backend is None or claim is None or not batch:
        logger.info("batch_not_taken message=%s backend=%s", message_id, backend_id)
        if dbm.status not in (Status.SENT, Status.DELIVERED):
            dbm.refresh_status()  # rows may have gone, with their connections or their backend
        return None
    if dbm.status == Status.ERRORED:
        dbm.set_status()  # what errored may be under way again
    error: Exception | None = None
    try:
        router.send_to_backend(
            backend_name=backend.name,
            id_=dbm.pk,
            text=dbm.text,
            identities=[row.identity for row in batch],
            context=backend_context(dbm),
        )
    except Exception as exc:
        error = exc
    outcome = _Outcome(dbm, backend, claim)
    sent, failed = _divide(batch, error)
    if sent:
        outcome.sent(sent)
    failure = outcome.failed(failed, error, retry_at_once) if error and failed else None
    dbm.refresh_status()
    outcome.tell()
    return failure


def backend_context(dbm: Message) -> dict[str, Any]:
    """Return the context a backend gets with an outgoing message."""
    if dbm.context is not None:
        return dict(dbm.context)
    context: dict[str, Any] = {}
    if original := dbm.in_response_to:
        context["in_response_to"] = original.pk
        if original.external_id:
            context["external_id"] = original.external_id
    return context


def _divide(batch: list[Taken], error: Exception | None) -> tuple[list[Taken], list[Taken]]:
    """Divide a batch into who was sent the message and who was not.

    RapidSMS's rule (``BackendBase.send``): if the exception lists ``failed_identities``, all
    others were sent.
    """
    if error is None:
        return batch, []
    named = getattr(error, "failed_identities", None)
    if not named:
        return [], batch
    identities = {str(identity) for identity in ([named] if isinstance(named, str) else named)}
    sent = [row for row in batch if row.identity not in identities]
    failed = [row for row in batch if row.identity in identities]
    return sent, failed


class _Outcome:
    """Writes down how one call of a backend ended, then tells the project's own code."""

    def __init__(self, dbm: Message, backend: Backend, claim: uuid.UUID) -> None:
        self.dbm = dbm
        self.backend = backend
        self.claim = claim
        self.news: list[tuple[Signal, dict[str, Any]]] = []

    def sent(self, rows: list[Taken]) -> None:
        ids = [row.id for row in rows]
        Transmission.objects.finish_sent(self.claim, ids)
        logger.info("batch_sent message=%s backend=%s rows=%s", *self._where, len(ids))
        self.news.append((signals.transmissions_sent, {"transmission_ids": ids}))

    def failed(self, rows: list[Taken], error: Exception, retry_at_once: bool) -> Failure:
        cause = error.__cause__ or error
        most = 0 if isinstance(error, BackendNotConfigured) else conf.max_retries(self.backend.name)
        again = [row for row in rows if row.attempts <= most]
        wait = 0.0
        if again and not retry_at_once:
            wait = retries.delay(max(row.attempts for row in again), conf.retry_backoff())
        self._errored(again, cause, now() + datetime.timedelta(seconds=wait))
        self._errored([row for row in rows if row.attempts > most], cause, None)
        failure = TransmissionsFailed(
            f"Message {self.dbm.pk}: backend {self.backend.pk} failed {len(rows)} transmissions"
            f" ({type(cause).__name__}).",
            failed_identities=[row.identity for row in rows],
        )
        failure.__cause__ = error
        logger.debug("batch_errored message=%s backend=%s", *self._where, exc_info=error)
        return Failure(failure, [row.id for row in again], wait)

    def _errored(
        self, rows: list[Taken], cause: BaseException, next_try: datetime.datetime | None
    ) -> None:
        if not rows:
            return
        ids, reason = [row.id for row in rows], describe(cause)
        Transmission.objects.finish_errored(self.claim, ids, reason, next_try)
        logger.error(
            "batch_errored message=%s backend=%s rows=%s error=%s next_try=%s",
            *self._where,
            len(ids),
            type(cause).__name__,
            next_try and next_try.isoformat(timespec="seconds"),
        )
        news = {"transmission_ids": ids, "error": reason, "next_try": next_try}
        self.news.append((signals.transmissions_errored, news))

    @property
    def _where(self) -> tuple[int, int]:
        return self.dbm.pk, self.backend.pk

    def tell(self) -> None:
        for signal, news in self.news:
            signals.tell(
                signal,
                sender=Transmission,
                message=self.dbm,
                backend_name=self.backend.name,
                **news,
            )


# Again, on request


def resend(transmissions: QuerySet[Transmission]) -> tuple[int, list[int]]:
    """Move errored outbound transmissions from E to Q, with all their tries before them again.

    :param transmissions: those asked for; what among them is not E is left alone.
    :returns: how many were moved, and the ids of their messages, which the caller has queued.
    """
    errored = transmissions.filter(status=Status.ERRORED, message__direction=Direction.OUTGOING)
    rows = iter(list(errored.order_by("pk").values_list("pk", "message_id")))
    count = 0
    messages: set[int] = set()
    while chunk := dict(islice(rows, INSERT_SIZE)):
        messages.update(chunk.values())
        count += Transmission.objects.filter(pk__in=chunk, status=Status.ERRORED).update(
            status=Status.QUEUED, attempts=0, next_try=None, updated=now()
        )
    for message in Message.objects.filter(pk__in=messages):
        message.set_status()
    logger.info("transmissions_resent rows=%s messages=%s", count, len(messages))
    return count, sorted(messages)


def reprocess(messages: QuerySet[Message]) -> list[int]:
    """Move errored inbound messages from E to Q.

    :param messages: those asked for; what among them is not inbound and E is left alone.
    :returns: the ids of those moved, which the caller has queued.
    """
    errored = messages.filter(status=Status.ERRORED, direction=Direction.INCOMING)
    moved = []
    for message_id in list(errored.values_list("pk", flat=True)):
        with transaction.atomic(using=alias()):
            still = Message.objects.filter(pk=message_id, status=Status.ERRORED)
            if still.update(status=Status.QUEUED, error="", claim=None, updated=now()):
                Transmission.objects.filter(message=message_id).update(
                    status=Status.QUEUED, updated=now()
                )
                moved.append(message_id)
    logger.info("messages_reprocessed messages=%s", len(moved))
    return moved
