"""From a stored message to the sender that sends it.

========================== ======================================================================
who stores                 what happens after the commit
========================== ======================================================================
any process                a doorbell is published for each backend of the message
a worker, for a reply      the sender of its process gets the batch, which it has stored as claimed
eager mode, an eager       the batches are sent in the caller's thread, before any commit in eager
backend                    mode
========================== ======================================================================
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from django.db import transaction
from rapidsms.models import Backend
from rapidsms.router import get_router

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.models import Batch, Message, status
from rapidsms_db_router.models.batch import REPLY
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.lease import lease
from rapidsms_db_router.outbound.calls import Router
from rapidsms_db_router.outbound.direct import send_now
from rapidsms_db_router.outbound.held import HeldBatch
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.storage import batches, recipients

logger = logging.getLogger(__name__)

#: Gives a batch to the sender of this process.
HandOver = Callable[[Backend, HeldBatch], None]


class Outbox:
    """Collects the batches of messages that are being stored, until they may be sent.

    :param router: a function that returns a router whose backends are called, in eager mode.
    :param hand_over: gives a batch to the sender of this process, if there is one.
    """

    def __init__(self, router: Callable[[], Router], hand_over: HandOver | None = None) -> None:
        self._router = router
        self._hand_over = hand_over
        self._jobs: list[Callable[[], None]] = []

    def new_batch(self, msg: Any) -> Batch | None:
        """Return the batch that is to be stored with an outgoing message; ``None``: cut it later.

        :param msg: RapidSMS's message object.
        """
        backend = recipients.one_batch_for(msg.connections)
        if backend is None:
            return None
        batch = Batch(backend=backend, transmission_ids=[], whole=True)
        not_before = getattr(msg, "not_before", None)
        moment = now()
        batch.due_at = batch.ready_at = max(not_before or moment, moment)
        if msg.in_response_to is not None:
            batch.position = REPLY
        is_ready = batch.ready_at == moment
        eager = doorbells.is_eager() or conf.is_eager(backend.name)
        here = self._hand_over is not None and is_ready and not eager
        if here and not doorbells.sends_elsewhere(backend.name):
            batch.claim_token, batch.recover_at = uuid.uuid4(), lease()
        return batch

    def add(self, message: Message, batch: Batch | None, rows: list[Recipient] | None) -> None:
        """Have a message sent that was just stored.

        :param batch: its only batch, if it was stored with one.
        :param rows: the transmissions of that batch.
        """
        if message.not_before is not None and message.not_before > now():
            return  # recovery rings when its date has come
        if batch is not None and batch.claim_token is not None and self._hand_over is not None:
            held = HeldBatch(batch, rows or [])
            self._jobs.append(partial(self._hand_over, batch.backend, held))
            return
        first = batches.first_batches(message) if batch is None else [batch]
        if first:
            self._jobs.append(lambda: self._send(message, first))

    def flush(self) -> None:
        """Have everything sent: in eager mode at once, else when the transaction is committed."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            after_commit(job)

    def _send(self, message: Message, first: list[Batch]) -> None:
        # eager backends first: they need no broker
        for batch in sorted(first, key=lambda batch: not conf.is_eager(batch.backend.name)):
            backend = batch.backend
            if doorbells.is_eager():
                _send_eagerly(message.pk, backend)
            elif conf.is_eager(backend.name):
                _send_here(self._router(), message.pk, backend)
            elif not doorbells.publish_outbound(backend, message.pk, batch.transmission_ids):
                if batch is first[0] and status.mark_queued(Message.objects.filter(pk=message.pk)):
                    message.status = "Q"
                return


def send(messages: Collection[int]) -> None:
    """Have workers told of messages whose batches were cut again; in eager mode send them here.

    One doorbell for each backend, however many messages there are.

    :param messages: primary keys.
    """
    if messages:
        after_commit(partial(_send, messages))


def _send(messages: Collection[int]) -> None:
    waiting = Batch.objects.claimable().filter(among(messages, "message")).order_by()
    ids = waiting.values("backend").distinct()
    backends = list(Backend.objects.using(alias()).filter(pk__in=ids))
    # eager backends first: they need no broker
    for backend in sorted(backends, key=lambda backend: not conf.is_eager(backend.name)):
        if doorbells.is_eager():
            for message_id in messages:
                _send_eagerly(message_id, backend)
        elif conf.is_eager(backend.name):
            for message_id in messages:
                _send_here(get_router(), message_id, backend)
        elif not doorbells.publish_outbound(backend, message_id=0):
            status.mark_queued(Message.objects.filter(among(messages)))
            return


def _send_eagerly(message_id: int, backend: Backend) -> None:
    """Have Celery run a task for each batch, here."""
    mine = Batch.objects.filter(message=message_id, backend=backend)
    for batch in mine.order_by("position", "pk"):
        doorbells.publish_outbound(backend, message_id, batch.transmission_ids)


def _send_here(router: Router, message_id: int, backend: Backend) -> None:
    mine = Batch.objects.filter(message=message_id, backend=backend).values_list("pk", flat=True)
    if ids := list(mine):
        send_now(router, message_id, backend, ids, at_once=False)


def after_commit(job: Callable[[], None]) -> None:
    """Run a job when the transaction is committed; in eager mode at once."""
    if doorbells.is_eager():
        job()
    else:
        transaction.on_commit(partial(_never_failing, job), using=alias())


def _never_failing(job: Callable[[], None]) -> None:
    """Run a job; the message is stored, so that its caller must not see this fail."""
    try:
        job()
    except Exception as exc:
        logger.error("publishing_failed error=%s", type(exc).__name__)
        logger.debug("publishing_failed", exc_info=True)
