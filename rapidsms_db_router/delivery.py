"""The use cases: store a message, process an inbound one, send a batch, try errored ones again.

Nothing here knows of Celery: what is to happen later is returned to, or passed in by, the caller.
"""

from __future__ import annotations

import datetime
import logging
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import QuerySet
from rapidsms.models import Backend, Connection

from rapidsms_db_router import (
    answers,
    bulk,
    conf,
    database,
    gates,
    heartbeat,
    reports,
    retries,
    signals,
    single,
)
from rapidsms_db_router.answers import Answer
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clean import clean_json, clean_text, narrow_text
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import alias
from rapidsms_db_router.errors import (
    InvalidConnection,
    NoRecipients,
    TransmissionsFailed,
)
from rapidsms_db_router.models import (
    FEW,
    NO_RECIPIENTS,
    SOME_ERRORED,
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
#: Recipients named in one statement.
CHUNK = 5000
#: How many batches of one message to one backend workers are told of at first.
WINDOW = 4
#: A batch that a worker took so soon gives two others their turn: workers have time. In seconds.
SHORT_WAIT = 0.1
#: One that waited so long gives none its turn, if enough are waiting: who texts in waits as long.
LONG_WAIT = 0.3
#: How long a task goes on with other batches, in seconds: who texts in waits for that, too.
MOMENT = 0.1
#: More of an error than this helps nobody.
LONGEST_ERROR = 10_000
#: The width of the column.
LONGEST_EXTERNAL_ID = 1024
#: A call that is refused as a whole, with nobody named, is divided: one recipient may be the
#: reason. Not for ever, if the gateway takes nobody in so many calls.
MOST_REFUSED = 16
#: The errors of what was not sent, though nothing went wrong.
EXPIRED, CANCELLED = "expired", "cancelled"


class Router(Protocol):
    """What this module asks of a router."""

    def create_message_from_dbm(
        self, dbm: Message, fields: dict[str, Any] | None = None, fetch_connections: bool = True
    ) -> Any: ...

    def process_incoming(self, msg: Any) -> None: ...

    def send_to_backend(
        self, backend_name: str, id_: Any, text: str, identities: list[str], context: dict[str, Any]
    ) -> Any: ...


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
    direction: str,
    connections: Any,
    text: Any,
    fields: dict[Any, Any] | None = None,
    *,
    claim: uuid.UUID | None = None,
    **columns: Any,
) -> Message:
    """Store a message and a transmission for each of its connections, or nothing.

    What no database can hold is replaced, never refused. An inbound message that repeats one
    stored within a day (same connections, external id and text) is not stored again.

    :param direction: ``"I"`` or ``"O"``.
    :param connections: as for :func:`recipients`; each gets one transmission however often it
        is named. An iterator is walked once, and never held as a whole.
    :param text: the text.
    :param fields: the RapidSMS message's fields, ``external_id`` among them.
    :param claim: who has taken the message already; its transmissions, which are no more than
        :data:`FEW`, are P instead of Q.
    :param columns: further columns of the message.
    :returns: the stored message, or the one that this one repeats. Its ``stored_rows`` are the
        transmissions, if they are few.
    :raises InvalidConnection: as :func:`recipients`.
    """
    found = connections if isinstance(connections, Iterator) else recipients(connections)
    stored_fields, lossy = clean_json(fields or {})
    external_id = stored_fields.get("external_id")
    external_id = "" if external_id is None else clean_text(external_id)
    message = Message(
        direction=direction,
        text=clean_text(text),
        fields=stored_fields,
        external_id=external_id[:LONGEST_EXTERNAL_ID],
        claim=claim,
        **columns,
    )
    if direction == Direction.INCOMING:
        found = list(found)
        message.repetition_key = repetition_key(found, external_id, message.text)
        message.due = lease()
    stored = _insert(message, found, claim)
    if stored is not message:
        logger.info("message_repeated message=%s", stored.pk)
        return stored
    if lossy or message.text != text:
        logger.warning("message_cleaned message=%s", message.pk)
    if len(external_id) > LONGEST_EXTERNAL_ID:
        logger.warning("external_id_cut message=%s length=%s", message.pk, len(external_id))
    return message


def _insert(message: Message, found: Iterable[Connection], claim: uuid.UUID | None) -> Message:
    """Insert a message with its transmissions; return it, or the one that it repeats."""
    # a reply is stored by us: an error is the end of the transaction around it
    savepoint = claim is None or database.connection().vendor == "mysql"
    few = None
    if database.is_postgresql() and isinstance(found, list) and 0 < len(found) <= FEW:
        few = {_primary_key(each): each for each in found}.values()
    while True:
        try:
            if few is not None and not database.connection().in_atomic_block:
                single.insert(message, few, claim)
                return message
            with transaction.atomic(using=alias(), savepoint=savepoint):
                if few is not None:
                    single.insert(message, few, claim)
                    return message
                message.save(force_insert=True)
                count = _insert_transmissions(message, found, claim)
                if not count and message.direction == Direction.OUTGOING:
                    message.status, message.error = Status.ERRORED, NO_RECIPIENTS
                    message.due = None
                    message.save(update_fields=("status", "error", "due", "updated"))
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


def _insert_transmissions(
    message: Message, found: Iterable[Connection], claim: uuid.UUID | None
) -> int:
    """Insert a transmission for each connection, once; return how many there are."""
    # what a union calls its columns differs from one Django to the next
    if isinstance(found, QuerySet) and not found.query.combinator:
        return bulk.insert_for_queryset(message, found)
    walk = iter(found)
    few = list(islice(walk, FEW + 1))
    if len(few) <= FEW:
        status = Status.QUEUED if claim is None else Status.PROCESSING
        unique = {_primary_key(connection): connection for connection in few}
        message.stored_rows = Transmission.objects.bulk_create(
            Transmission(
                message=message,
                connection=connection,
                status=status,
                claim=claim,
                attempts=0 if claim is None else 1,
            )
            for connection in unique.values()
        )
        return len(unique)
    count, walk = 0, chain(few, walk)
    while chunk := list(islice(walk, CHUNK)):
        ids = {_primary_key(connection) for connection in chunk}
        count += bulk.insert_for_ids(message, sorted(ids))
    return count


# Planning


def in_one_call(connections: Any, text: str) -> Backend | None:
    """Return the backend that can send a text to all of these in one call, if there is one."""
    if not isinstance(connections, list) or not 0 < len(connections) <= FEW:
        return None
    if len({connection.backend_id for connection in connections}) > 1:
        return None
    backend: Backend = connections[0].backend
    return backend if len(connections) <= gates.batch_size(backend.name, text) else None


def plan(dbm: Message, *, at_once: bool = False) -> list[Batch]:
    """Write down the batches in which the transmissions of a message that are Q are to be sent.

    Belongs into the transaction that stores the transmissions.

    :param at_once: have no batch wait for its turn.
    :returns: the batches that workers are to be told of.
    """
    rows = dbm.stored_rows
    if rows is not None and (backend := in_one_call([row.connection for row in rows], dbm.text)):
        ids = sorted(row.pk for row in rows)
        return [
            Batch.objects.create(
                message=dbm,
                backend=backend,
                transmission_ids=ids,
                first_id=ids[0],
                due=dbm.due,
                called=dbm.date,
                calls=1,
                whole=True,
            )
        ]
    options = {name: gates.batch_size(name, dbm.text) for name, _ in conf.installed_backends()}
    sizes = {name: size for name, size in options.items() if size != conf.batch_size()}
    eager = {name for name in options if conf.is_eager(name)}
    special = dict(Backend.objects.filter(name__in=sizes.keys() | eager).values_list("pk", "name"))
    bulk.insert_batches(
        dbm,
        size=conf.batch_size(),
        sizes={pk: sizes[name] for pk, name in special.items() if name in sizes},
        window=WINDOW,
        at_once=None if at_once else {pk for pk, name in special.items() if name in eager},
    )
    return told_of(dbm)


def told_of(dbm: Message) -> list[Batch]:
    """Return the batches of a message that workers are to be told of, and none has taken."""
    return list(dbm.batches.told().select_related("backend").order_by("pk"))


def plan_again(dbm: Message, groups: Iterable[Group], *, at_once: bool) -> None:
    """Write down the batches in which some transmissions of a message are to be sent again.

    :param groups: the transmissions, divided.
    """
    planned: Counter[int] = Counter()
    due, moment = lease(), now()
    batches = []
    for group in groups:
        number = planned[group.backend_id]
        planned[group.backend_id] += 1
        told = at_once or conf.is_eager(group.backend_name) or number < WINDOW
        batches.append(
            Batch(
                message=dbm,
                backend_id=group.backend_id,
                transmission_ids=group.ids,
                first_id=group.ids[0],
                number=number,
                due=due if told else None,
                called=moment if told else None,
                calls=1 if told else 0,
            )
        )
    Batch.objects.bulk_create(batches, batch_size=FEW)


# Inbound


class ClaimLost(Exception):
    """Another process has taken over what this one was working on."""


def process_inbound(
    router: Router,
    message_id: int,
    fields: dict[str, Any] | None = None,
    *,
    send_replies: bool = False,
) -> list[Ended]:
    """Run the apps on a stored inbound message and store their replies; it ends R or E.

    Ends quietly if the message is gone, processed, or held by another.

    :param router: whose ``process_incoming`` does the work.
    :param fields: used where the stored message has none.
    :param send_replies: send those replies that fit one call of their backend here and now, once
        all are stored: no task of their own has to wait for its turn.
    :returns: how those replies ended that were not sent to everybody.
    """
    dbm = None
    replies = Replies(router) if send_replies else None
    try:
        with transaction.atomic(using=alias()) if conf.atomic_receive() else nullcontext():
            dbm = single.take_inbound(message_id)
            if dbm is None:
                logger.info("message_not_taken message=%s", message_id)
                return []
            dbm.replies = replies
            _run_apps(router, dbm, fields)
    except ClaimLost:
        logger.warning("claim_lost message=%s", message_id)
        return []
    except Exception as exc:
        if dbm is None:
            raise
        if is_transient(exc) and dbm.attempts <= conf.max_retries():
            _give_back(dbm)
            return []
        if not _error_inbound(dbm, exc):
            raise
        replies = None
    # the reply does not wait for the project's own code
    ended = list(replies.send()) if replies else []
    signals.tell(signals.message_processed, sender=Message, message=dbm)
    return ended


class Replies:
    """Replies that are sent by the task that has stored them.

    They are stored as taken by it, and it holds their messages: a batch is written down only for
    what it could not send.

    :param router: whose ``send_to_backend`` does the work.
    """

    def __init__(self, router: Router) -> None:
        self.router = router
        self._messages: list[tuple[Message, Backend, list[Taken]]] = []

    def claim(self, msg: Any) -> uuid.UUID | None:
        """Return the claim under which a reply is to be stored, if it belongs here."""
        backend = in_one_call(msg.connections, str(msg.text))
        if backend is None or conf.queue(backend.name) or not gates.is_well(backend):
            return None
        return uuid.uuid4()

    def add(self, dbm: Message) -> None:
        """Have a message sent that was stored under such a claim."""
        rows = dbm.stored_rows or []
        taken = [Taken(row.pk, row.connection.identity, row.attempts) for row in rows]
        self._messages.append((dbm, rows[0].connection.backend, taken))

    def send(self) -> Iterator[Ended]:
        """Send them; yield how those ended that were not sent to everybody."""
        with ExitStack() as kept:
            for dbm, _, _ in self._messages:
                kept.enter_context(heartbeat.kept(Message, dbm.pk, dbm.claim))
            for dbm, backend, rows in self._messages:
                answer = _call(self.router, dbm, backend, rows)
                if not answer.failed and _finish_reply(dbm, rows, answer):
                    reports.take_up_early(answer.external_ids, backend.name)
                    _tell_sent(dbm, backend, [row.id for row in rows])
                else:
                    yield _End(_leave_over(dbm, backend, rows), rows, answer).write()


def _finish_reply(dbm: Message, rows: list[Taken], answer: Answer) -> bool:
    """Store that all of a reply was sent; return ``False`` if some of it is no longer ours.

    Not in one transaction: were only its transmissions S, recovery would see to the message.
    """
    ids = [row.id for row in rows]
    if answer.external_ids:
        insist(lambda: Transmission.objects.note_external_ids(answer.external_ids))
    if insist(lambda: Transmission.objects.finish_sent(dbm.claim, ids)) < len(ids):
        return False
    return insist(lambda: _mark_sent(dbm, dbm.claim))


def _leave_over(dbm: Message, backend: Backend, rows: list[Taken]) -> Batch:
    """Make a batch, still taken, of a reply that could not be sent in passing."""
    ids = [row.id for row in rows]

    def write() -> Batch:
        with transaction.atomic(using=alias()):
            Message.objects.filter(pk=dbm.pk, claim=dbm.claim).update(claim=None)
            return Batch.objects.create(
                message=dbm,
                backend=backend,
                transmission_ids=ids,
                first_id=ids[0],
                claim=dbm.claim,
                due=lease(),
                gave_turn=True,
            )

    return insist(write)


#: Where the replies to the message in hand go.
_replies: ContextVar[Replies | None] = ContextVar("_replies", default=None)


def replies() -> Replies | None:
    """Return where replies go that are being stored; ``None`` if a task of its own sends each."""
    return _replies.get()


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
        token = _replies.set(None if dbm is None else dbm.replies)
        try:
            if dbm is not None and dbm.claim is not None:
                # first, since on SQLite a transaction that reads before it writes may be refused
                _finish_inbound(dbm, dbm.claim, Status.RECEIVED)
            yield
        finally:
            _replies.reset(token)


def _finish_inbound(dbm: Message, claim: uuid.UUID, status: Status, error: str = "") -> None:
    if not Message.objects.finish_inbound(dbm.pk, claim, status, error):
        raise ClaimLost
    Transmission.objects.finish_inbound(dbm.pk, status)
    dbm.status, dbm.error = status, error


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
    #: Other batches whose turn it is now, of which workers are to be told.
    next: Sequence[Batch] = ()
    #: Batches of which workers are to be told later.
    later: Sequence[gates.Later] = ()
    #: One more, which whoever has ended this one has taken.
    taken: Batch | None = None


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
    another holds it, or has sent it, or its backend has as many in flight as it may.

    :param router: whose ``send_to_backend`` does the work.
    :param ids: primary keys of transmissions of one message to one backend.
    :param retry_at_once: make the next try due now, for those who cannot wait.
    """
    taken = _take_batch(backend_id, message_id, ids, ask=not retry_at_once)
    if taken.batch is None:
        return Ended(later=taken.later)
    ended = _send(router, taken.batch, taken.rows, retry_at_once=retry_at_once)
    return replace(ended, later=[*taken.later, *ended.later])


def send_batches(
    router: Router, backend_id: int, message_id: int, ids: Collection[int]
) -> Iterator[Ended]:
    """Send a batch as :func:`send_batch` does, then others that wait for their turn.

    For a moment only, since others wait for the worker: it saves that moment's tasks.

    :returns: how each ended.
    """
    taken = _take_batch(backend_id, message_id, ids)
    if taken.later:
        yield Ended(later=taken.later)  # before the call, which may take its time
    if taken.batch is None:
        return
    deadline = time.monotonic() + MOMENT
    waited = (now() - called).total_seconds() if (called := taken.batch.called) else LONG_WAIT
    turns = 2 if waited < SHORT_WAIT else 1 if waited < LONG_WAIT else 0
    ended = _send(router, taken.batch, taken.rows, turns=turns, deadline=deadline)
    yield ended
    while (batch := ended.taken) is not None:
        rows = Transmission.objects.take(batch.claim, batch.message_id, batch.transmission_ids)
        ended = _send(router, batch, rows, deadline=deadline)
        yield ended


def _send(
    router: Router,
    batch: Batch,
    rows: list[Taken],
    *,
    retry_at_once: bool = False,
    turns: int = 1,
    deadline: float = 0,
) -> Ended:
    """Hand the rows of a batch that is taken to its backend, and write down how that ended."""
    with heartbeat.kept(Batch, batch.pk, batch.claim):
        answer = _call(router, batch.message, batch.backend, rows) if rows else Answer()
        go_on = time.monotonic() < deadline
        return _End(batch, rows, answer, retry_at_once, turns, go_on).write()


def _call(router: Router, dbm: Message, backend: Backend, rows: list[Taken]) -> Answer:
    """Have a backend send; where it refuses several with nobody named, find out who it is."""
    answer, waiting, calls = Answer(), [rows], 0
    while waiting:
        some = waiting.pop()
        calls += 1
        one = _call_once(router, dbm, backend, some)
        if one.blames_nobody and (answer.sent or calls < MOST_REFUSED):
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
        else:
            answer.add(one)
    return answer


def _call_once(router: Router, dbm: Message, backend: Backend, rows: list[Taken]) -> Answer:
    returned, raised = None, None
    try:
        returned = router.send_to_backend(
            backend_name=backend.name,
            id_=dbm.pk,
            text=dbm.text,
            identities=[row.identity for row in rows],
            context=backend_context(dbm),
        )
    except Exception as exc:
        raised = exc
    return answers.read(rows, returned, raised)


class _Taking(NamedTuple):
    """What came of a try to take a batch."""

    batch: Batch | None = None
    rows: list[Taken] = []
    #: Batches of which workers are to be told later.
    later: list[gates.Later] = []


def _take_batch(
    backend_id: int, message_id: int, transmission_ids: Collection[int], *, ask: bool = True
) -> _Taking:
    """Take what is planned for exactly these transmissions, and of them what is to be sent.

    :param ask: whether limits of the backend, and trouble with it, count.
    """
    claim, ids = uuid.uuid4(), sorted(transmission_ids)
    planned = Batch.objects.filter(message=message_id, first_id__in=ids[:1])
    planned = planned.select_related("message", "backend__router_state")
    same = [batch for batch in planned if sorted(batch.transmission_ids) == ids]
    later: list[gates.Later] = []
    for batch in same:
        if has_expired(batch.message):
            forget(batch.message, EXPIRED)
            break
        if not ask:
            taken = Batch.objects.take(batch.pk, claim)
        else:
            taken, later = gates.take(batch, claim)
        if not taken:
            continue
        batch.claim = claim
        if batch.message.status == Status.QUEUED:
            _mark_processing(batch.message)
        rows = Transmission.objects.take(claim, message_id, ids)
        if batch.errored and rows:
            batch.message.refresh_status(without=batch)
        return _Taking(batch, rows, later)
    found = None if same else _take_unplanned(backend_id, message_id, ids, claim)
    if found is None:
        logger.info("batch_not_taken message=%s backend=%s", message_id, backend_id)
        return _Taking(later=later)
    return _Taking(*found)


def _take_unplanned(
    backend_id: int, message_id: int, ids: list[int], claim: uuid.UUID
) -> tuple[Batch, list[Taken]] | None:
    """Take what nobody has planned, and write it down all the same, so that it can be recovered."""
    dbm = Message.objects.filter(pk=message_id, direction=Direction.OUTGOING).first()
    backend = Backend.objects.select_related("router_state").filter(pk=backend_id).first()
    if dbm is None:
        return None
    if backend is None:
        dbm.refresh_status()  # its transmissions went with the backend
        return None
    with transaction.atomic(using=alias()):
        rows = Transmission.objects.take(claim, dbm.pk, ids)
        if not rows:
            return None
        batch = Batch.objects.create(
            message=dbm,
            backend=backend,
            transmission_ids=ids,
            first_id=ids[0],
            claim=claim,
            due=lease(),
            gave_turn=True,  # no other waits for its turn behind it
        )
    dbm.refresh_status(without=batch)
    return batch, rows


def _mark_processing(dbm: Message) -> None:
    """Move an outbound message from Q to P: no worker could be told of it, and one has it now."""
    if Message.objects.filter(pk=dbm.pk, status=Status.QUEUED).update(status=Status.PROCESSING):
        dbm.status = Status.PROCESSING


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


def _mark_sent(dbm: Message, claim: uuid.UUID | None = None) -> bool:
    """Store that a message is S, all of it; return ``False`` if that cannot be told like this."""
    moment = now()
    if not Message.objects.mark_sent(dbm.pk, moment, claim):
        return False  # a delivery report came first, or there is an error to be taken back
    dbm.status, dbm.sent, dbm.due = Status.SENT, moment, None
    return True


def _tell_sent(dbm: Message, backend: Backend, ids: list[int]) -> None:
    logger.info("batch_sent message=%s backend=%s rows=%s", dbm.pk, backend.pk, len(ids))
    signals.tell(
        signals.transmissions_sent,
        sender=Transmission,
        message=dbm,
        backend_name=backend.name,
        transmission_ids=ids,
    )


class _Failed(NamedTuple):
    """Transmissions of a batch that failed for the same reason."""

    ids: list[int]
    error: Exception
    reason: str
    #: When they will be tried again, or ``None`` if they are given up.
    next_try: datetime.datetime | None


class _End:
    """Writes down how one call of a backend ended, then tells the project's own code."""

    def __init__(
        self,
        batch: Batch,
        rows: list[Taken],
        answer: Answer,
        retry_at_once: bool = False,
        turns: int = 1,
        go_on: bool = False,
    ) -> None:
        self.batch = batch
        self.dbm: Message = batch.message
        self.backend: Backend = batch.backend
        self.claim: uuid.UUID = batch.claim  # type: ignore[assignment]  # it is taken
        self.answer = answer
        self.retry_at_once = retry_at_once
        self.turns = turns
        self.go_on = go_on
        self.taken = [row.id for row in rows]
        self.sent = [row.id for row in answer.sent]
        self.wait = 0.0
        self.failed: list[_Failed] = []
        self.put_back: list[int] = []

    def write(self) -> Ended:
        """Store how the batch ended and whose turn it is now, together; then tell of it."""
        kept, following, later, settled = insist(self._write)
        if kept is not None:
            self.batch.transmission_ids = kept
        taken = following.pop(0) if self.go_on and following else None
        pending = any(batch.message_id == self.dbm.pk for batch in (taken, *following) if batch)
        if not settled and not pending:
            self.dbm.refresh_status(without=self.batch)
        reports.take_up_early(self.answer.external_ids, self.backend.name)
        self._tell()
        retry = self.batch if kept is not None and self._again() else None
        return Ended(self._error(), retry, self.wait, following, later, taken)

    def _error(self) -> TransmissionsFailed | None:
        if not self.answer.failed:
            return None
        first = self.answer.failed[0].error
        error = TransmissionsFailed(
            f"Message {self.dbm.pk}: backend {self.backend.pk} failed"
            f" {len(self.answer.failed)} transmissions ({type(first).__name__}).",
            failed_identities=[failure.row.identity for failure in self.answer.failed],
        )
        error.__cause__ = first
        return error

    def _again(self) -> list[int]:
        """Return those that will be tried again, at a date."""
        return [pk for failed in self.failed if failed.next_try for pk in failed.ids]

    def _write(self) -> tuple[list[int] | None, list[Batch], list[gates.Later], bool]:
        with transaction.atomic(using=alias()):
            # who cannot wait asks nobody, and tells nobody
            verdict = gates.Verdict(self.batch, Answer() if self.retry_at_once else self.answer)
            self._judge(verdict)
            if self.answer.external_ids:
                Transmission.objects.note_external_ids(self.answer.external_ids)
            sent = Transmission.objects.finish_sent(self.claim, self.sent) if self.sent else 0
            if self.put_back:
                Transmission.objects.put_back(self.claim, self.put_back)
            for failed in self.failed:
                Transmission.objects.finish_errored(
                    self.claim, failed.ids, failed.reason, failed.next_try
                )
            ours, kept = self._let_go(verdict.number)
            # who has taken the batch over will give its turn
            following = self._give_turns() if ours and verdict.is_free else []
            later = verdict.give_turns()
            if self.failed:
                self._mark_errored()
            # every transmission of the message was sent by this very call
            all_sent = self.batch.whole and sent == len(self.batch.transmission_ids)
            settled = all_sent and _mark_sent(self.dbm)
            return kept, following, later, settled

    def _judge(self, verdict: gates.Verdict) -> None:
        """Decide what becomes of those that failed."""
        self.failed, self.put_back, self.wait = [], [], 0.0
        failures = self.answer.failed
        if verdict.put_back:
            self.put_back = [failure.row.id for failure in failures]
            return
        most = conf.max_retries(self.backend.name)
        again = {f.row for f in failures if not f.permanent and f.row.attempts <= most}
        moment = now()
        next_try = moment
        if again and not self.retry_at_once:
            attempts = max(row.attempts for row in again)
            wait = retries.delay(attempts, conf.retry_backoff())
            self.wait = max(wait, self.answer.retry_after or 0.0)
            next_try = moment + datetime.timedelta(seconds=self.wait)
            if verdict.closed_until and verdict.closed_until > next_try:
                next_try = verdict.closed_until
                self.wait = (next_try - moment).total_seconds()
        by_reason: dict[tuple[str, bool], list[answers.Failure]] = {}
        for failure in failures:
            key = describe(failure.error), failure.row in again
            by_reason.setdefault(key, []).append(failure)
        self.failed = [
            _Failed([f.row.id for f in some], some[0].error, reason, next_try if follows else None)
            for (reason, follows), some in by_reason.items()
        ]

    def _give_turns(self) -> list[Batch]:
        """Have others of the message take the place of this batch; one in this very process."""
        if self.batch.gave_turn or self.batch.whole:
            return []
        waiting = Batch.objects.filter(backend=self.backend.pk, message=self.dbm)
        turns = self.turns
        # each of those that wait for a worker gives a turn in the end: so there is always one
        if not turns and waiting.told().filter(gave_turn=False)[:WINDOW].count() < WINDOW:
            turns = 1
        claim = uuid.uuid4() if self.go_on else None
        if turns == 1 and claim:
            given = Batch.objects.take_next(self.dbm.pk, self.backend.pk, claim)
        else:
            given = waiting.order_by("first_id").give_turns(turns, claim)
        for batch in given:
            batch.message, batch.backend = self.dbm, self.backend  # as they are known here
        return given

    def _mark_errored(self) -> None:
        messages = Message.objects.filter(pk=self.dbm.pk)
        if any(failed.next_try is None for failed in self.failed):
            messages.update(given_up=True)
        if messages.exclude(status=Status.ERRORED).update(
            status=Status.ERRORED, error=SOME_ERRORED, updated=now()
        ):
            self.dbm.status, self.dbm.error = Status.ERRORED, SOME_ERRORED

    def _let_go(self, number: int) -> tuple[bool, list[int] | None]:
        """Let go of the batch; keep it on the list if anything of it is still to be sent.

        :param number: its place in line, if it is put back.
        :returns: whether it was still ours, and of what it was kept.
        """
        if self.put_back:
            kept = self._mine().update(claim=None, due=None, calls=0, called=None, number=number)
            return bool(kept), self.batch.transmission_ids if kept else None
        ids = self._again()
        next_try = max((f.next_try for f in self.failed if f.next_try), default=now())
        others = set(self.batch.transmission_ids) - set(self.taken)
        dates: dict[int, Any] = {}
        if others:
            # not due yet; what somebody else holds, another batch stands for
            waiting = Transmission.objects.filter(pk__in=others).waiting()
            dates = dict(waiting.values_list("pk", "next_try"))
            ids += dates
            next_try = max([next_try, *dates.values()])
        if not ids:
            return Batch.objects.end(self.batch.pk, self.claim), None
        # the task that tries again has this much time before recovery rings
        due = next_try + datetime.timedelta(seconds=conf.recovery_interval())
        ids.sort()
        kept = self._mine().update(
            claim=None,
            transmission_ids=ids,
            first_id=ids[0],
            due=due,
            called=None,
            calls=1,
            whole=False,
            gave_turn=True,
            errored=True,
        )
        return bool(kept), ids if kept else None

    def _mine(self) -> QuerySet[Batch]:
        return Batch.objects.filter(pk=self.batch.pk, claim=self.claim)

    def _tell(self) -> None:
        ids = self.dbm.pk, self.backend.pk
        if self.sent:
            _tell_sent(self.dbm, self.backend, self.sent)
        if self.put_back:
            logger.warning("batch_put_back message=%s backend=%s rows=%s", *ids, len(self.put_back))
        for failed in self.failed:
            date = failed.next_try
            logger.error(
                "batch_errored message=%s backend=%s rows=%s error=%s next_try=%s",
                *ids,
                len(failed.ids),
                type(failed.error).__name__,
                date and date.isoformat(timespec="seconds"),
            )
            signals.tell(
                signals.transmissions_errored,
                sender=Transmission,
                message=self.dbm,
                backend_name=self.backend.name,
                transmission_ids=failed.ids,
                error=failed.reason,
                next_try=date,
            )
        for failure in self.answer.failed[:1]:
            logger.debug("batch_errored message=%s backend=%s", *ids, exc_info=failure.error)


# Again, on request


def resend(
    transmissions: QuerySet[Transmission], *, at_once: bool = False
) -> tuple[int, list[int]]:
    """Move errored outbound transmissions from E to Q, with all their tries before them again.

    :param transmissions: those asked for; what among them is not E is left alone.
    :param at_once: have no batch wait for its turn.
    :returns: how many were moved, and the ids of their messages, which the caller has queued.
    """
    errored = transmissions.filter(status=Status.ERRORED, message__direction=Direction.OUTGOING)
    pairs = errored.order_by("message_id", "pk").values_list("message_id", "pk")
    count, messages = 0, []
    for message_id, rows in groupby(list(pairs), key=itemgetter(0)):
        ids = [pk for _, pk in rows]
        moved = insist(partial(_resend, message_id, ids, at_once))
        if moved:
            count += moved
            messages.append(message_id)
    logger.info("transmissions_resent rows=%s messages=%s", count, len(messages))
    return count, messages


def _resend(message_id: int, ids: list[int], at_once: bool) -> int:
    chunks = [ids[start : start + FEW] for start in range(0, len(ids), FEW)]
    rows = [Transmission.objects.filter(pk__in=chunk) for chunk in chunks]
    moved = 0
    with transaction.atomic(using=alias()):
        # also a lock: of two who ask at the same time one finds nothing to be moved
        Message.objects.filter(pk=message_id).update(due=lease())
        dbm = Message.objects.filter(pk=message_id).first()
        for some in rows:
            moved += some.filter(status=Status.ERRORED).update(
                status=Status.QUEUED, attempts=0, next_try=None, updated=now()
            )
        if dbm is None or not moved:
            transaction.set_rollback(True, using=alias())
            return 0
        size_of = partial(gates.batch_size, text=dbm.text)
        queued = (some.filter(status=Status.QUEUED).groups(size_of=size_of) for some in rows)
        plan_again(dbm, chain.from_iterable(queued), at_once=at_once)
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


def has_expired(dbm: Message) -> bool:
    """Return whether a message is not to be sent any more."""
    return dbm.expires_at is not None and dbm.expires_at <= now()


def forget(dbm: Message, reason: str) -> int:
    """Give up what is still to be sent of an outbound message: it becomes E.

    What is being sent is left alone.

    :param reason: why, for the admin.
    :returns: how many transmissions were given up.
    """
    with transaction.atomic(using=alias()):
        # also a lock, before those of the transmissions, as in all that takes both
        Message.objects.filter(pk=dbm.pk).update(updated=now())
        count = Transmission.objects.filter(message=dbm.pk).forget(reason)
        Batch.objects.filter(message=dbm.pk, claim__isnull=True).delete()
        if count:
            Message.objects.filter(pk=dbm.pk).update(given_up=True)
        dbm.set_status()
    logger.info("message_forgotten message=%s rows=%s reason=%s", dbm.pk, count, reason)
    return count


def cancel(messages: QuerySet[Message]) -> int:
    """Give up what is still to be sent of outbound messages.

    :param messages: those asked for; inbound ones among them are left alone.
    :returns: how many transmissions became E with the reason "cancelled".
    """
    pending = messages.filter(direction=Direction.OUTGOING)
    return sum(insist(partial(forget, dbm, CANCELLED)) for dbm in list(pending))
