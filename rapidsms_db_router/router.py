"""The router that ``RAPIDSMS_ROUTER`` names."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from django.db import transaction
from rapidsms.apps.base import AppBase
from rapidsms.errors import MessageSendingError
from rapidsms.messages.incoming import IncomingMessage
from rapidsms.messages.outgoing import OutgoingMessage
from rapidsms.models import Connection

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, contained
from rapidsms_db_router.db.text import clean_json
from rapidsms_db_router.errors import BackendNotConfigured
from rapidsms_db_router.inbound.arrival import arrive
from rapidsms_db_router.inbound.processing import Processing
from rapidsms_db_router.limits import loops
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.models.transmission import TransmissionQuerySet
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound.causes import attribute
from rapidsms_db_router.outbound.outbox import Outbox
from rapidsms_db_router.storage import batches, messages, objects
from rapidsms_db_router.storage.messages import Stored
from rapidsms_db_router.storage.recipients import recipients
from rapidsms_db_router.worker.building import LazyRouter

logger = logging.getLogger(__name__)

__all__ = ("DatabaseRouter",)


class DatabaseRouter(LazyRouter):
    """Stores every message before anything else happens to it, and lets Celery do the rest.

    Inbound messages carry their row as ``msg.dbm`` and its primary key as ``msg.id``; outbound
    ones carry their row as ``msg.database_message``.
    """

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
        :raises ~rapidsms_db_router.errors.InvalidConnection: if a connection is not saved.
        """
        found = recipients(connections)
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
        arrive(self, msg.dbm)

    def _store_incoming(self, msg: Any) -> None:
        msg.dbm = self._store(Direction.INCOMING, msg).message
        msg.id = msg.dbm.pk

    # Inbound, in a worker

    def process_incoming(self, msg: Any) -> None:
        """Run the apps on a message and store their replies, all together or none.

        :param msg: an inbound message. If it came from a worker that holds its row
            (``msg.dbm``), the row becomes R in the transaction that stores the replies.
        :raises Exception: whatever an app, or the storing of a reply, raises.
        """
        with contained():
            proceed = self.process_incoming_phases(msg)
        processing = getattr(msg, "processing", None)
        if processing is None:
            processing = Processing(getattr(msg, "dbm", None), None, Outbox(lambda: self))
        with processing.storing() as outbox:
            for response in msg.responses if proceed else ():
                reply = self.new_outgoing_message(**response)
                reply.outbox = outbox
                self.send_outgoing(reply)

    def process_incoming_phases(self, msg: Any) -> bool:
        """Lead a message through every phase of every app, as ``BlockingRouter`` does.

        Unlike there, no text and no number is logged.

        :returns: ``True``: its responses are to be sent.
        :raises ~rapidsms_db_router.errors.RouterNotBuilt: if an app cannot be built.
        """
        self.require_apps()
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
        :param expires_at: a recipient that was not sent the message by then becomes E with the
            reason "expired".
        :param kwargs: passed on to ``class_``.
        :raises ~rapidsms_db_router.errors.InvalidConnection: if a connection is not saved.
        :raises ValueError: if a date is no moment in time, or if the message would expire before
            it may be sent.
        """
        objects.check_moment("not_before", not_before)
        objects.check_moment("expires_at", expires_at)
        if not_before and expires_at and expires_at <= not_before:
            raise ValueError(
                f"expires_at, {expires_at}, is no later than not_before, {not_before}: nobody"
                " would be sent the message."
            )
        # held as a whole only where somebody may look at it before it is stored
        streamed = isinstance(connections, Iterator) and not any(
            _overrides(app, phase) for phase in self.outgoing_phases for app in self.apps
        )
        found = connections if streamed else recipients(connections)
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
                    with contained() if _overrides(app, phase) else nullcontext():
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
        # a message that the project made by itself knows nothing of dates
        not_before, expires_at = (getattr(msg, name, None) for name in ("not_before", "expires_at"))
        looks = [lease(), *([expires_at] if expires_at else [])]
        more |= {"not_before": not_before, "expires_at": expires_at, "recover_at": min(looks)}
        if not_before is None or not_before <= now():
            more["status"] = Status.PROCESSING
        # replies have an outbox of their own, which waits until all are stored
        of_replies: Outbox | None = getattr(msg, "outbox", None)
        outbox = of_replies or Outbox(lambda: self)
        looping = loops.is_loop(msg)
        batch = None if looping else outbox.new_batch(msg)
        with transaction.atomic(using=alias(), savepoint=of_replies is None):
            stored = self._store(Direction.OUTGOING, msg, batch=batch, **more)
            if looping:
                logger.warning("reply_loop message=%s", stored.message.pk)
                discarding.discard(stored.message, loops.REASON)
            elif stored.batch is None and stored.message.recover_at:
                batches.cut(stored.message)
        msg.database_message = stored.message
        if isinstance(msg.connections, Iterator):
            ids = Transmission.objects.filter(message=stored.message).values("connection")
            msg.connections = Connection.objects.using(alias()).filter(pk__in=ids)
        if not looping:
            outbox.add(stored.message, stored.batch, stored.recipients)
        if of_replies is None:
            outbox.flush()

    def send_to_backend(
        self, backend_name: str, id_: Any, text: str, identities: list[str], context: dict[str, Any]
    ) -> Any:
        """Hand a message to a backend.

        :param backend_name: a name in ``INSTALLED_BACKENDS``.
        :param id_: the primary key of the message's row.
        :param identities: the recipients.
        :param context: what the message's ``extra_backend_context()`` returned.
        :returns: what the backend returns: nothing, or by identity the gateway's own id of what it
            took, or the exception why it did not.
        :raises ~rapidsms_db_router.errors.BackendNotConfigured: for an unknown backend.
        :raises ~rapidsms_db_router.errors.RouterNotBuilt: for one that cannot be built for now.
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
            error = MessageSendingError(f"Backend {backend_name!r} raised {type(err).__name__}.")
            # not by the constructor, which asks whether it is true: an array raises
            if (named := attribute(err, "failed_identities")) is not None:
                error.failed_identities = named
            raise error from err

    # Rows

    def queue_message(
        self,
        direction: str,
        connections: Any,
        text: str,
        fields: dict[str, Any] | None = None,
    ) -> Message:
        """Store a message and one transmission for each connection.

        :param direction: ``"I"`` or ``"O"``.
        :param connections: a QuerySet, list, generator or one ``Connection``.
        :param fields: stored with the message; ``external_id`` in its own column too.
        :returns: the stored message, Q; E if it has no recipient. For the duplicate of an
            inbound message (see :meth:`new_incoming_message`), the row of the first.
        :raises ~rapidsms_db_router.errors.InvalidConnection: if a connection is not saved; then
            nothing is stored.
        """
        return messages.store(direction, connections, text, fields).message

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
        original = dbm.in_response_to
        msg = objects.class_of(dbm)(
            connections=objects.connections_of(dbm) if fetch_connections else [],
            text=dbm.text,
            id_=dbm.pk,
            in_response_to=original
            and self.create_message_from_dbm(original, fetch_connections=fetch_connections),
            fields=dbm.fields if fields is None else fields,
        )
        msg.dbm = dbm
        if dbm.direction == Direction.OUTGOING:
            msg.database_message = dbm
        return msg

    def _store(self, direction: Direction, msg: Any, **more: Any) -> Stored:
        """Store a message object; ``more`` is what ``queue_message`` does not take."""
        columns = objects.columns_of(direction, msg)
        return messages.store(direction, msg.connections, msg.text, msg.fields, **columns, **more)


def _overrides(app: Any, phase: str) -> bool:
    """Return whether an app has anything to do in a phase."""
    return getattr(type(app), phase, None) is not getattr(AppBase, phase) or phase in vars(app)
