"""The use cases: store a message, process an inbound one, send a batch, try errored ones again.

Nothing here knows of Celery: what is to happen later is returned to, or passed in by, the caller.
"""

from __future__ import annotations

import datetime
import logging
import traceback
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Protocol

from django.db import DatabaseError, IntegrityError, connections, router, transaction
from django.db.models import QuerySet
from rapidsms.models import Backend, Connection

from rapidsms_db_router import conf, heartbeat, retries, signals
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clean import clean_json, clean_text, narrow_text
from rapidsms_db_router.clock import now
from rapidsms_db_router.errors import (
    BackendNotConfigured,
    InvalidConnection,
    NoRecipients,
    TransmissionsFailed,
)
from rapidsms_db_router.models import (
    NO_RECIPIENTS,
    Batch,
    Message,
    Transmission,
    repetition_key,
)
from rapidsms_db_router.querysets import Group, Taken, lease
from rapidsms_db_router.transient import insist, is_transient

logger = logging.getLogger(__name__)

#: An inbound message is a repetition if its like came no longer ago than this.
REPETITION_WINDOW = datetime.timedelta(days=1)
#: Rows in one INSERT.
INSERT_SIZE = 1000
#: How many batches of one message to one backend are in the broker, or being sent, at a time.
WINDOW = 8
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
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found = list(given) if several else [given]
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
        message.due = lease()
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


def plan(dbm: Message, groups: Iterable[Group], *, at_once: bool = False) -> None:
    """Write down the batches in which transmissions of a message are to be sent.

    Belongs into the transaction that makes the transmissions Q.

    :param groups: the transmissions, divided.
    :param at_once: have no batch wait for its turn.
    """
    planned: Counter[int] = Counter()
    first_due = lease()
    batches = []
    for group in groups:
        planned[group.backend_id] += 1
        due = at_once or conf.is_eager(group.backend_name)
        due = due or planned[group.backend_id] <= WINDOW
        batches.append(
            Batch(
                message=dbm,
                backend_id=group.backend_id,
                transmission_ids=group.ids,
                first_id=group.ids[0],
                due=first_due if due else None,
                calls=1 if due else 0,
            )
        )
    Batch.objects.bulk_create(batches, batch_size=INSERT_SIZE)


# Inbound


class ClaimLost(Exception):
    """Another process has taken over what this one was working on."""


def process_inbound(router: Router, message_id: int, fields: dict[str, Any] | None = None) -> None:
    """Run the apps on a stored inbound message and store their replies; it ends R or E.

    Ends quietly if the message is gone, processed, or held by another.

    :param router: whose ``process_incoming`` does the work.
    :param fields: used where the stored message has none.
    """
    dbm = None
    try:
        with transaction.atomic(using=alias()) if conf.atomic_receive() else nullcontext():
            dbm = _take_inbound(message_id)
            if dbm is None:
                logger.info("message_not_taken message=%s", message_id)
                return
            _run_apps(router, dbm, fields)
    except ClaimLost:
        logger.warning("claim_lost message=%s", message_id)
        return
    except Exception as exc:
        if dbm is None:
            raise
        if is_transient(exc) and dbm.attempts <= conf.max_retries():
            _give_back(dbm)
            return
        if not _error_inbound(dbm, exc):
            raise
    signals.tell(signals.message_processed, sender=Message, message=dbm)


def _take_inbound(message_id: int) -> Message | None:
    claim = Message.objects.take_inbound(message_id)
    return Message.objects.filter(pk=message_id, claim=claim).first() if claim else None


def _run_apps(router: Router, dbm: Message, fields: dict[str, Any] | None) -> None:
    # In one transaction nobody else sees the claim, and a sign of life would wait for its end.
    kept = nullcontext() if conf.atomic_receive() else heartbeat.kept(Message, dbm.pk, dbm.claim)
    with kept:
        msg = router.create_message_from_dbm(dbm, dbm.fields or fields)
        if not msg.connections:
            raise NoRecipients("no connection left: deleted before the apps could run")
        router.process_incoming(msg)
    logger.info("message_received message=%s", dbm.pk)


def _give_back(dbm: Message) -> None:
    """Let go of a message that could not be processed in passing; recovery has it soon."""
    logger.warning("message_given_back message=%s", dbm.pk)
    # with DB_ROUTER_ATOMIC_RECEIVE claim and attempt were undone with all the rest
    claim = None if conf.atomic_receive() else dbm.claim
    mine = Message.objects.filter(pk=dbm.pk, status=Status.QUEUED, claim=claim)
    insist(lambda: mine.update(claim=None, due=now(), attempts=dbm.attempts))


def _error_inbound(dbm: Message, exc: Exception) -> bool:
    """Store that an app raised; return ``False`` if the message is no longer ours to store it."""
    logger.error("message_errored message=%s error=%s", dbm.pk, type(exc).__name__)
    logger.debug("message_errored message=%s", dbm.pk, exc_info=exc)
    error = describe(exc) + "\n\n" + "".join(traceback.format_exception(exc))
    with transaction.atomic(using=alias()):
        if conf.atomic_receive():
            # taking it was undone with all the rest
            dbm.claim = Message.objects.take_inbound(dbm.pk)
        if dbm.claim is None:
            return False
        _finish_inbound(dbm, dbm.claim, Status.ERRORED, _storable(error))
    return True


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
class Ended:
    """What the end of a batch leaves to be done."""

    #: What to raise for callers who want to know, if some transmissions failed.
    error: TransmissionsFailed | None = None
    #: The batch as it is to be tried again, and in how many seconds.
    retry: Batch | None = None
    retry_in: float = 0.0
    #: Another batch whose turn it is now.
    next: Batch | None = None


def send_batch(
    router: Router,
    backend_id: int,
    message_id: int,
    ids: Collection[int],
    *,
    retry_at_once: bool = False,
) -> Ended:
    """Send what is to be sent of a batch; each row ends S or E.

    Ends quietly if message or backend are gone, or if no row of the batch is to be sent: because
    another holds it, or has sent it.

    :param router: whose ``send_to_backend`` does the work.
    :param ids: primary keys of transmissions of one message to one backend.
    :param retry_at_once: make the next try due now, for those who cannot wait.
    """
    dbm = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING).first()
    backend = Backend.objects.filter(pk=backend_id).first()
    if dbm is None or backend is None:
        logger.info("batch_gone message=%s backend=%s", message_id, backend_id)
        if dbm is not None:
            dbm.refresh_status()  # its transmissions went with the backend
        return Ended()
    claim = uuid.uuid4()
    batch, rows = _take_batch(dbm, backend, sorted(ids), claim)
    if batch is None:
        logger.info("batch_not_taken message=%s backend=%s", message_id, backend_id)
        return Ended()
    error: Exception | None = None
    if rows:
        if dbm.status == Status.ERRORED:
            dbm.set_status()  # what errored may be under way again
        try:
            with heartbeat.kept(Batch, batch.pk, claim):
                router.send_to_backend(
                    backend_name=backend.name,
                    id_=dbm.pk,
                    text=dbm.text,
                    identities=[row.identity for row in rows],
                    context=backend_context(dbm),
                )
        except Exception as exc:
            error = exc
    return _End(dbm, backend, batch, claim, rows, error, retry_at_once).write()


def _take_batch(
    dbm: Message, backend: Backend, ids: list[int], claim: uuid.UUID
) -> tuple[Batch | None, list[Taken]]:
    """Take what is planned for exactly these transmissions, and of them what is to be sent."""
    planned = Batch.objects.filter(message=dbm, first_id__in=ids[:1])
    same = [batch for batch in planned if batch.transmission_ids == ids]
    for batch in same:
        if Batch.objects.take(batch.pk, claim):
            return batch, Transmission.objects.take(claim, dbm.pk, ids)
    if same:
        return None, []
    # Not planned, so that no other waits for its turn behind it; but written down all the same,
    # so that it can be recovered.
    with transaction.atomic(using=alias()):
        rows = Transmission.objects.take(claim, dbm.pk, ids)
        if not rows:
            return None, []
        batch = Batch.objects.create(
            message=dbm,
            backend=backend,
            transmission_ids=ids,
            first_id=ids[0],
            claim=claim,
            due=lease(),
            gave_turn=True,
        )
    return batch, rows


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


class _End:
    """Writes down how one call of a backend ended, then tells the project's own code."""

    def __init__(
        self,
        dbm: Message,
        backend: Backend,
        batch: Batch,
        claim: uuid.UUID,
        rows: list[Taken],
        error: Exception | None,
        retry_at_once: bool,
    ) -> None:
        self.dbm = dbm
        self.backend = backend
        self.batch = batch
        self.claim = claim
        self.cause = error and (error.__cause__ or error)
        sent, failed = _divide(rows, error)
        final = isinstance(error, BackendNotConfigured)
        most = 0 if final else conf.max_retries(backend.name)
        again = [row for row in failed if row.attempts <= most]
        self.wait = 0.0
        if again and not retry_at_once:
            attempts = max(row.attempts for row in again)
            self.wait = retries.delay(attempts, conf.retry_backoff())
        self.next_try = now() + datetime.timedelta(seconds=self.wait)
        self.reason = describe(self.cause) if self.cause else ""
        self.taken = [row.id for row in rows]
        self.sent = [row.id for row in sent]
        self.again = [row.id for row in again]
        self.given_up = [row.id for row in failed if row.attempts > most]
        self.failed_identities = [row.identity for row in failed]

    def write(self) -> Ended:
        """Store how the batch ended and whose turn it is now, together; then tell of it."""
        kept, following = insist(self._write)
        if self.failed_identities or self.batch.gave_turn:
            self.dbm.set_status()
        else:
            self.dbm.refresh_status()
        self._tell()
        error = None
        if self.failed_identities:
            error = TransmissionsFailed(
                f"Message {self.dbm.pk}: backend {self.backend.pk} failed"
                f" {len(self.failed_identities)} transmissions ({type(self.cause).__name__}).",
                failed_identities=self.failed_identities,
            )
            error.__cause__ = self.cause
        return Ended(error, kept if self.again else None, self.wait, following)

    def _write(self) -> tuple[Batch | None, Batch | None]:
        with transaction.atomic(using=alias()):
            if self.sent:
                Transmission.objects.finish_sent(self.claim, self.sent)
            for rows, date in ((self.again, self.next_try), (self.given_up, None)):
                if rows:
                    Transmission.objects.finish_errored(self.claim, rows, self.reason, date)
            ours, kept = self._let_go()
            following = None
            # who has taken the batch over will give its turn
            if ours and not self.batch.gave_turn:
                following = Batch.objects.give_turn(self.dbm.pk, self.backend.pk)
            return kept, following

    def _let_go(self) -> tuple[bool, Batch | None]:
        """Let go of the batch; keep it on the list if anything of it is still to be sent.

        :returns: whether it was still ours, and the batch as it was kept.
        """
        ids, next_try = self.again, self.next_try
        others = set(self.batch.transmission_ids) - set(self.taken)
        if others:
            # not due yet, or held by somebody who sends them without this batch
            unfinished = dict(Transmission.objects.filter(pk__in=others).unfinished())
            ids = sorted([*ids, *unfinished])
            next_try = max([next_try, *filter(None, unfinished.values())])
        mine = Batch.objects.filter(pk=self.batch.pk, claim=self.claim)
        if not ids:
            deleted, _ = mine.delete()
            return bool(deleted), None
        # the task that tries again has this much time before recovery rings
        due = next_try + datetime.timedelta(seconds=conf.recovery_interval())
        kept = mine.update(
            claim=None,
            transmission_ids=ids,
            first_id=ids[0],
            due=due,
            calls=1,
            gave_turn=True,
        )
        self.batch.transmission_ids = ids
        return bool(kept), self.batch if kept else None

    def _tell(self) -> None:
        where = {"message": self.dbm, "backend_name": self.backend.name, "sender": Transmission}
        ids = self.dbm.pk, self.backend.pk
        if self.sent:
            logger.info("batch_sent message=%s backend=%s rows=%s", *ids, len(self.sent))
            signals.tell(signals.transmissions_sent, transmission_ids=self.sent, **where)
        for rows, date in ((self.again, self.next_try), (self.given_up, None)):
            if rows:
                logger.error(
                    "batch_errored message=%s backend=%s rows=%s error=%s next_try=%s",
                    *ids,
                    len(rows),
                    type(self.cause).__name__,
                    date and date.isoformat(timespec="seconds"),
                )
                signals.tell(
                    signals.transmissions_errored,
                    transmission_ids=rows,
                    error=self.reason,
                    next_try=date,
                    **where,
                )
        if self.cause:
            logger.debug("batch_errored message=%s backend=%s", *ids, exc_info=self.cause)


# Again, on request


def resend(
    transmissions: QuerySet[Transmission], *, at_once: bool = False
) -> tuple[int, list[int]]:
    """Move errored outbound transmissions from E to Q, with all their tries before them again.

    :param transmissions: those asked for; what among them is not E is left alone.
    :param at_once: as for :func:`plan`.
    :returns: how many were moved, and the ids of their messages, which the caller has queued.
    """
    errored = transmissions.filter(status=Status.ERRORED, message__direction=Direction.OUTGOING)
    pairs = errored.order_by("message_id", "pk").values_list("message_id", "pk")
    count, messages = 0, []
    for message_id, rows in groupby(list(pairs), key=itemgetter(0)):
        moved = _resend(message_id, [pk for _, pk in rows], at_once)
        if moved:
            count += moved
            messages.append(message_id)
    logger.info("transmissions_resent rows=%s messages=%s", count, len(messages))
    return count, messages


def _resend(message_id: int, ids: list[int], at_once: bool) -> int:
    dbm = Message.objects.filter(pk=message_id).first()
    if dbm is None:
        return 0
    moved = 0

    def groups() -> Iterator[Group]:
        nonlocal moved
        chunks = iter(ids)
        while chunk := list(islice(chunks, INSERT_SIZE)):
            rows = Transmission.objects.filter(pk__in=chunk)
            moved += rows.filter(status=Status.ERRORED).update(
                status=Status.QUEUED, attempts=0, next_try=None, updated=now()
            )
            yield from rows.filter(status=Status.QUEUED).groups()

    with transaction.atomic(using=alias()):
        Message.objects.filter(pk=message_id).update(due=lease())
        plan(dbm, groups(), at_once=at_once)
        dbm.set_status()
    return moved


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
            if still.update(
                status=Status.QUEUED, error="", claim=None, due=lease(), calls=1, updated=now()
            ):
                Transmission.objects.filter(message=message_id).update(
                    status=Status.QUEUED, updated=now()
                )
                moved.append(message_id)
    logger.info("messages_reprocessed messages=%s", len(moved))
    return moved
