"""Running the apps on a stored inbound message, and storing their replies with its end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from django.db import transaction

from rapidsms_db_router import conf, signals
from rapidsms_db_router.activation import default_locale
from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.db.text import storable
from rapidsms_db_router.db.transient import insist, is_transient
from rapidsms_db_router.engine import engine
from rapidsms_db_router.errors import NoRecipients, RouterNotBuilt
from rapidsms_db_router.masking import describe
from rapidsms_db_router.models import Message
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.outbound.outbox import Outbox
from rapidsms_db_router.worker.leases import renewed

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClaimLost(Exception):
    """Another process has taken over what this one was working on."""


class Router(Protocol):
    """What this module asks of a router."""

    def require_apps(self) -> None: ...

    def create_message_from_dbm(
        self, dbm: Message, fields: dict[str, Any] | None = None, fetch_connections: bool = True
    ) -> Any: ...

    def process_incoming(self, msg: Any) -> None: ...


class Processing:
    """One inbound message while the apps run on it; RapidSMS's message object carries it.

    :param message: the message; ``None``: one that was never stored.
    :param token: the claim under which it is held, if it is.
    :param outbox: where the replies go.
    """

    def __init__(self, message: Message | None, token: uuid.UUID | None, outbox: Outbox) -> None:
        self.message = message
        self.token = token
        self.outbox = outbox
        #: Where the message comes from; an error does not repeat it.
        self.identities: list[str] = []

    @contextmanager
    def storing(self) -> Iterator[Outbox]:
        """Store in one transaction that the message is R and, in the body, its replies.

        :raises ClaimLost: if another process has taken the message over; nothing is stored then.
        """
        with transaction.atomic(using=alias()):
            # first, since on SQLite a transaction that reads before it writes may be refused
            if self.message is not None and self.token is not None:
                _finish(self.message, self.token, Status.RECEIVED)
            yield self.outbox
        self.outbox.flush()


def process_inbound(router: Router, message_id: int, outbox: Outbox) -> None:
    """Run the apps on a stored inbound message and store their replies; it ends R or E.

    Ends quietly if the message is gone, processed, or claimed by another.

    :param router: whose ``process_incoming`` does the work.
    :param outbox: where the replies go.
    :raises RouterNotBuilt: if an app cannot be built; the message waits.
    :raises django.db.Error: what the database has refused in passing; the message is released.
    """
    try:
        router.require_apps()  # before the claim, which counts as a start
    except RouterNotBuilt:
        # as long as its task comes again, recovery need not publish another one
        waiting = Message.objects.filter(pk=message_id, status=Status.QUEUED, claim_token=None)
        waiting.update(recover_at=lease())
        raise
    token = uuid.uuid4()
    message = _insist(lambda: engine().claim_inbound(message_id, token))
    if message is None:
        logger.info("message_not_claimed message=%s", message_id)
        return
    if message.attempts > conf.max_retries() + 1:
        _give_up(message, token)
        return
    processing = Processing(message, token, outbox)
    try:
        with renewed(message.pk, token):
            _run_apps(router, message, processing)
    except ClaimLost:
        logger.warning("claim_lost message=%s", message_id)
        return
    except Exception as exc:
        if is_transient(exc) and message.attempts <= conf.max_retries():
            if _release(message, token):
                raise
            outbox.flush()  # its end was committed after all, or it is another's now
        elif not _store_error(message, token, exc, processing.identities):
            # not raised: Celery would log what the exception says
            logger.warning("claim_lost message=%s", message_id)
            return
    signals.tell(signals.message_processed, sender=Message, message=message)


def _run_apps(router: Router, message: Message, processing: Processing) -> None:
    msg = router.create_message_from_dbm(message, message.fields)
    if not msg.connections:
        raise NoRecipients("no connection left: deleted before the apps could run")
    processing.identities = [connection.identity for connection in msg.connections]
    msg.processing = processing
    # the claim is committed before: however often the worker dies, the start is counted
    atomic = transaction.atomic(using=alias()) if conf.atomic_receive() else nullcontext()
    with default_locale(), atomic:
        router.process_incoming(msg)
    logger.info("message_received message=%s", message.pk)


def _release(message: Message, token: uuid.UUID) -> bool:
    """Release a message that could not be processed in passing; return whether it was claimed."""
    held = Message.objects.filter(pk=message.pk, status=Status.QUEUED, claim_token=token)
    released = _insist(lambda: held.update(claim_token=None, recover_at=now()))
    if released:
        logger.warning("message_released message=%s", message.pk)
    return bool(released)


def _insist(write: Callable[[], T]) -> T:
    """Go on as long as a claim counts: after that recovery finds what it was about."""
    return insist(write, conf.visibility_timeout())


def _give_up(message: Message, token: uuid.UUID) -> None:
    """End a message whose workers have died each time."""
    starts = message.attempts - 1
    logger.error("message_given_up message=%s starts=%s", message.pk, starts)
    _end_errored(message, token, f"worker died {starts} times")
    signals.tell(signals.message_processed, sender=Message, message=message)


def _store_error(message: Message, token: uuid.UUID, exc: Exception, identities: list[str]) -> bool:
    """Store that an app raised; return ``False`` if the claim was lost."""
    logger.error("message_errored message=%s error=%s", message.pk, type(exc).__name__)
    logger.debug("message_errored message=%s", message.pk, exc_info=exc)
    error = describe(exc, texts=[message.text], identities=identities, with_traceback=True)
    try:
        _end_errored(message, token, storable(error))
    except ClaimLost:
        return False
    return True


def _end_errored(message: Message, token: uuid.UUID, error: str) -> None:
    def end() -> None:
        with transaction.atomic(using=alias()):
            _finish(message, token, Status.ERRORED, error)

    _insist(end)


def _finish(message: Message, token: uuid.UUID, status: Status, error: str = "") -> None:
    if not engine().finish_inbound(message.pk, token, status, error):
        raise ClaimLost
    message.status, message.error = status, error
