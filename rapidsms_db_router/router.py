"""The router that ``RAPIDSMS_ROUTER`` names."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from rapidsms.apps.base import AppBase
from rapidsms.errors import MessageSendingError
from rapidsms.messages.base import MessageBase
from rapidsms.messages.incoming import IncomingMessage
from rapidsms.messages.outgoing import OutgoingMessage
from rapidsms.models import Connection
from rapidsms.router.blocking import BlockingRouter

from rapidsms_db_router import database, delivery, queueing
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clean import clean_json
from rapidsms_db_router.clock import now
from rapidsms_db_router.database import alias
from rapidsms_db_router.errors import BackendNotConfigured
from rapidsms_db_router.models import Message
from rapidsms_db_router.querysets import TransmissionQuerySet, lease

logger = logging.getLogger(__name__)

__all__ = ("DatabaseRouter",)

USUAL_CLASS: dict[str, type[MessageBase]] = {
    Direction.INCOMING: IncomingMessage,
    Direction.OUTGOING: OutgoingMessage,
}


class DatabaseRouter(BlockingRouter):
    """Stores every message before anything else happens to it, and lets Celery do the rest.

    Inbound messages carry their row as ``msg.dbm`` and its primary key as ``msg.id``; outbound
    ones carry their row as ``msg.database_message``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Apps and backends are built when they are first looked at: RapidSMS makes a router for
        # each message, and who stores one that has come in needs neither.
        self._options = args, kwargs
        self._columns: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in ("apps", "backends"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        args, kwargs = self._options
        super().__init__(*args, **kwargs)
        return self.__dict__[name]

    # Ways in

    def new_incoming_message(
        self, connections: Any, text: str, class_: type = IncomingMessage, **kwargs: Any
    ) -> Any:
        """Store an inbound message and return it as RapidSMS's message object.

        :param connections: where it came from: a list or QuerySet of ``Connection``.
        :param text: what it says.
        :param class_: the class of the message object; apps get one of it too.
        :param kwargs: passed on to ``class_``: ``fields``, ``in_response_to`` and so on.
        :returns: the message; if a gateway has posted it before (the same connections,
            external id and text, within a day), with the row of the first.
        :raises ~rapidsms_db_router.errors.InvalidConnection: for what is no saved connection.
        """
        found = delivery.recipients(connections)
        msg = super().new_incoming_message(text=text, connections=found, class_=class_, **kwargs)
        self._store_incoming(msg)
        return msg

    def receive_incoming(self, msg: Any) -> None:
        """Have the apps run on a message: after the surrounding transaction, in a worker.

        :param msg: what :meth:`new_incoming_message` returned; any other message is stored
            first.
        """
        if not hasattr(msg, "dbm"):
            self._store_incoming(msg)
        queueing.queue_inbound(msg.dbm)

    def _store_incoming(self, msg: Any) -> None:
        msg.dbm = self._store(Direction.INCOMING, msg)
        msg.id = msg.dbm.pk

    # Inbound, in a worker

    def process_incoming(self, msg: Any) -> None:
        """Run the apps on a message and store their replies, all together or none.

        :param msg: an inbound message. If it came from a worker that holds its row
            (``msg.dbm``), the row becomes R in the transaction that stores the replies.
        :raises Exception: whatever an app, or the storing of a reply, raises.
        """
        with database.contained():
            proceed = self.process_incoming_phases(msg)
        with queueing.replies_together(), delivery.receiving(getattr(msg, "dbm", None)):
            for response in msg.responses if proceed else ():
                self.send_outgoing(self.new_outgoing_message(**response))

    def process_incoming_phases(self, msg: Any) -> bool:
        """Lead a message through every phase of every app, as ``BlockingRouter`` does.

        Unlike there, no text and no number is logged.

        :returns: ``True``: its responses are to be sent.
        """
        for phase in self.incoming_phases:
            if phase == "default" and msg.handled:
                break  # and no cleanup: so it is in BlockingRouter
            for app in self.apps:
                stop = getattr(app, phase)(msg) is True
                if stop and phase == "filter":
                    logger.info("message_filtered message=%s app=%s", msg.id, app)
                    return True
                if stop and phase == "handle":
                    msg.handled = True
                if stop and phase in ("handle", "default"):
                    break
        return True

    # Ways out

    def new_outgoing_message(
        self,
        text: str,
        connections: Any,
        class_: type = OutgoingMessage,
        *,
        not_before: datetime.datetime | None = None,
        expires_at: datetime.datetime | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return an outgoing message object; nothing is stored yet.

        :param text: what to say.
        :param connections: to whom: a QuerySet, list, generator or one ``Connection``.
        :param class_: the class of the message object.
        :param not_before: the message is stored, and held until then.
        :param expires_at: who has not been sent the message by then is not sent it any more, but
            becomes E with the reason "expired".
        :param kwargs: passed on to ``class_``.
        :raises ~rapidsms_db_router.errors.InvalidConnection: for what is no saved connection.
        :raises ValueError: for what is no moment in time, and for a message that would expire
            before it may be sent.
        """
        _check_moment("not_before", not_before)
        _check_moment("expires_at", expires_at)
        if not_before and expires_at and expires_at <= not_before:
            raise ValueError(
                f"expires_at, {expires_at}, is no later than not_before, {not_before}: nobody"
                " would be sent the message."
            )
        # held as a whole only where somebody may look at it before it is stored
        streamed = isinstance(connections, Iterator) and not any(
            _overrides(app, phase) for phase in self.outgoing_phases for app in self.apps
        )
        found = connections if streamed else delivery.recipients(connections)
        msg = super().new_outgoing_message(text=text, connections=found, class_=class_, **kwargs)
        msg.not_before, msg.expires_at = not_before, expires_at
        return msg

    def process_outgoing(self, msg: Any) -> None:
        """Lead a message through the apps' outgoing phase; unless one cancels it, store it."""
        if self.process_outgoing_phases(msg):
            self.backend_preparation(msg)

    def process_outgoing_phases(self, msg: Any) -> bool:
        """Lead a message through the apps, the last installed first.

        What an app raises is logged and changes nothing else, not even, where a database error
        was the cause, the transaction around it.

        :returns: ``False`` if an app returned ``False``: the message is cancelled.
        """
        for phase in self.outgoing_phases:
            for app in reversed(self.apps):
                try:
                    with database.contained() if _overrides(app, phase) else nullcontext():
                        go_on = getattr(app, phase)(msg)
                except Exception as exc:
                    logger.error("outgoing_app_failed app=%s error=%s", app, type(exc).__name__)
                    logger.debug("outgoing_app_failed app=%s", app, exc_info=True)
                    continue
                if go_on is False:
                    logger.info("message_cancelled app=%s", app)
                    return False
        msg.processed = True
        return True

    def backend_preparation(self, msg: Any) -> None:
        """Store an outgoing message and have it sent: after the surrounding transaction.

        :param msg: an outgoing message; ``msg.database_message`` is its row afterwards.
        """
        context, _ = clean_json(msg.extra_backend_context())
        # a message that answers none has no context unless its class gives it one
        more: dict[str, Any] = {"context": context} if context or msg.in_response_to else {}
        more |= {"status": Status.PROCESSING, "due": lease()}
        replies = delivery.replies()
        # a message that the project made by itself knows nothing of dates
        not_before, expires_at = (getattr(msg, name, None) for name in ("not_before", "expires_at"))
        more |= {"not_before": not_before, "expires_at": expires_at}
        held = not_before is not None and not_before > now()
        if held:
            more |= {"status": Status.QUEUED, "due": not_before}  # when recovery has it sent
        elif replies is not None and not expires_at and (claim := replies.claim(msg)):
            more["claim"] = claim
        with transaction.atomic(using=alias(), savepoint=replies is None):
            dbm = self._store(Direction.OUTGOING, msg, **more)
            told = [] if held or dbm.claim or not dbm.due else queueing.plan(dbm)
            if dbm.due and expires_at and expires_at < dbm.due:
                Message.objects.filter(pk=dbm.pk).update(due=expires_at)
        msg.database_message = dbm
        if isinstance(msg.connections, Iterator):
            msg.connections = Connection.objects.filter(transmissions__message=dbm)
        if replies is not None and dbm.claim:
            replies.add(dbm)
        else:
            queueing.queue_outbound(dbm, told)

    def send_to_backend(
        self, backend_name: str, id_: Any, text: str, identities: list[str], context: dict[str, Any]
    ) -> Any:
        """Hand a message to a backend.

        :param backend_name: a name in ``INSTALLED_BACKENDS``.
        :param id_: the primary key of the message's row.
        :param identities: whom to send it to.
        :param context: what the message's ``extra_backend_context()`` returned.
        :returns: what the backend returns: nothing, or by identity the gateway's own id of what it
            took, or the exception why it did not.
        :raises ~rapidsms_db_router.errors.BackendNotConfigured: for an unknown backend.
        :raises rapidsms.errors.MessageSendingError: from whatever the backend raised, with its
            ``failed_identities``.
        """
        try:
            backend = self.backends[backend_name]
        except KeyError:
            raise BackendNotConfigured(
                f"Backend {backend_name!r} is not in INSTALLED_BACKENDS; put it back and send"
                " the errored transmissions again."
            ) from None
        try:
            return backend.send(id_=id_, text=text, identities=identities, context=context)
        except MessageSendingError:
            raise
        except Exception as err:
            raise MessageSendingError(
                f"Backend {backend_name!r} raised {type(err).__name__}.",
                failed_identities=getattr(err, "failed_identities", None),
            ) from err

    # Rows

    def queue_message(
        self, direction: str, connections: Any, text: str, fields: dict[str, Any] | None = None
    ) -> Message:
        """Store a message and one transmission for each connection.

        :param direction: ``"I"`` or ``"O"``.
        :param connections: a QuerySet, list, generator or one ``Connection``.
        :param fields: stored with the message; ``external_id`` in its own column too.
        :returns: the stored message, Q; E if it is to be sent to nobody. For the repetition of
            an inbound message (see :meth:`new_incoming_message`), the row of the first.
        :raises ~rapidsms_db_router.errors.InvalidConnection: for what is no saved connection;
            nothing is stored.
        """
        return delivery.store(direction, connections, text, fields, **self._columns)

    def group_transmissions(
        self, transmissions: TransmissionQuerySet, batch_size: int | None = None
    ) -> Iterator[tuple[int, TransmissionQuerySet]]:
        """Divide transmissions by backend and into batches.

        :param transmissions: a QuerySet.
        :param batch_size: most transmissions in a batch; by default the backend's
            ``"router.db.batch_size"``, else ``DB_ROUTER_DEFAULT_BATCH_SIZE``.
        :returns: pairs of a backend's primary key and a QuerySet, ordered by primary key.
        """
        for group in transmissions.groups(batch_size):
            yield group.backend_id, transmissions.filter(pk__in=group.ids).order_by("pk")

    def create_message_from_dbm(
        self, dbm: Message, fields: dict[str, Any] | None = None, fetch_connections: bool = True
    ) -> Any:
        """Make RapidSMS's message object again from its row.

        :param dbm: the row.
        :param fields: the object's ``fields``; by default those stored with the row.
        :param fetch_connections: whether to look up connections, too.
        :returns: an object of the class the message was made with.
        """
        connections: list[Connection] = []
        if fetch_connections and dbm.stored_rows is not None:
            connections = [row.connection for row in dbm.stored_rows]
        elif fetch_connections:
            found = Connection.objects.filter(transmissions__message=dbm)
            found = found.select_related("backend", "contact")
            connections = list(found.order_by("transmissions__pk"))
        original = dbm.in_response_to
        msg = _message_class(dbm)(
            connections=connections,
            text=dbm.text,
            id_=dbm.pk,
            in_response_to=original
            and self.create_message_from_dbm(original, fetch_connections=fetch_connections),
            fields=fields or dbm.fields,
        )
        msg.dbm = dbm
        if dbm.direction == Direction.OUTGOING:
            msg.database_message = dbm
        return msg

    def _store(self, direction: Direction, msg: Any, **more: Any) -> Message:
        """Store a message object; ``more`` is what ``queue_message`` does not take."""
        original = msg.in_response_to
        answered = getattr(original, "dbm", None) or getattr(original, "database_message", None)
        if answered is not None:
            more["in_response_to"] = answered
        if type(msg) is not USUAL_CLASS[direction]:
            more["message_class"] = _importable_path(type(msg))
        self._columns = more
        try:
            return self.queue_message(direction, msg.connections, msg.text, fields=msg.fields)
        finally:
            self._columns = {}


def _check_moment(name: str, moment: Any) -> None:
    if moment is None:
        return
    if not isinstance(moment, datetime.datetime):
        raise ValueError(f"{name} is {moment!r}, which is no datetime.")
    if timezone.is_aware(moment) != settings.USE_TZ:
        wanted = "an aware" if settings.USE_TZ else "a naive"
        raise ValueError(f"{name} is {moment!r}; USE_TZ asks for {wanted} datetime.")


def _overrides(app: Any, phase: str) -> bool:
    """Return whether an app has anything to do in a phase."""
    return getattr(type(app), phase, None) is not getattr(AppBase, phase) or phase in vars(app)


def _importable_path(class_: type) -> str:
    """Return the dotted path a worker can import ``class_`` by, or an empty string."""
    path = f"{class_.__module__}.{class_.__qualname__}"
    try:
        return path if import_string(path) is class_ else ""
    except ImportError:
        return ""


def _message_class(dbm: Message) -> Any:
    if dbm.message_class:
        try:
            return import_string(dbm.message_class)
        except ImportError:
            logger.warning("message_class_gone message=%s class=%s", dbm.pk, dbm.message_class)
    return USUAL_CLASS[Direction(dbm.direction)]
