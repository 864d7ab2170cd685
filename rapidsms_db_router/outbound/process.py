"""The sender of this worker process."""

from __future__ import annotations

from rapidsms.models import Backend

from rapidsms_db_router.outbound.calls import Threads
from rapidsms_db_router.outbound.held import HeldBatch
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.worker import host, routers


def process_sender() -> Sender:
    """Return the sender of this process; start it if there is none."""
    sender: Sender = host.sender(_make)
    return sender


def hand_over(backend: Backend, batch: HeldBatch) -> None:
    """Give the sender of this process a batch that is claimed for it."""
    process_sender().hand_over(backend, batch)


def _make() -> Sender:
    return Sender(Threads(routers.router), ring=_ring)


def _ring(backend: Backend) -> None:
    """Tell another process that a backend has more batches."""
    # Celery's prefork pool gives a task to the first idle child, which may well be this process.
    # Of two at once the second one goes to another child.
    for _ in range(2):
        doorbells.publish_outbound(backend, message_id=0)
