"""Signals for a project's own code; sent once the change they tell of is committed.

An exception in a receiver is logged, and changes nothing else.

In a worker, receivers that hear how calls have ended run in threads of the sender, several at
a time. All others run in the thread that has made the change.

``message_processed``
    The apps have run on an inbound message, or one of them raised.
    ``sender``: :class:`~rapidsms_db_router.models.Message`; ``message``: the row, R or E.
``transmissions_sent``
    A gateway accepted some transmissions.
    ``sender``: :class:`~rapidsms_db_router.models.Transmission`; ``message``: the row;
    ``backend_name``; ``transmission_ids``: a list of primary keys.
``transmissions_errored``
    A try to send some transmissions failed; or they were given up without one: they were cancelled
    or have expired, their worker died, a report says that they failed, or a reply is one too many.
    As above, and ``error``: the reason stored with the rows; ``next_try``: when they will be tried
    again, or ``None`` if they are given up.
``transmissions_delivered``
    A gateway reported that some transmissions have arrived. As ``transmissions_sent``.

``recovery_turn``
    One worker of all has looked for lost work. It is sent once in each
    ``DB_ROUTER_RECOVERY_INTERVAL``, for work that the workers of a project share. The next look of
    the same worker waits for its receivers.
    ``sender``: :class:`~rapidsms_db_router.models.RecoverySchedule`.

``rows_imported``
    ``manage.py import_router_db`` has stored or changed rows that are older than those of this app.
    ``sender``: :class:`~rapidsms_db_router.models.Transmission`; ``last_id``: the primary key of
    the last transmission among them.

``operator_acted``
    A person has done something: on a page, in the admin or by a command. It is sent inside the
    transaction that does it, so that what a receiver writes is stored if the action is, and only
    then. A receiver that does anything else waits for ``transaction.on_commit``.
    ``sender``: the class of the subject, or ``None``; ``kind``; ``by``: a user's name, or such as
    ``manage.py backends (root)``; ``subject``: the row that it was done to, or ``None``; ``count``:
    to how many, or ``None``; ``before`` and ``after``: dictionaries of what it has changed;
    ``reason``: why, in the person's words.

    ======================================== =====================================================
    kind                                     subject
    ======================================== =====================================================
    ``pause`` ``resume`` ``set_limits``      a backend
    ``pause_message`` ``go_on_message``      an outbound message
    ``resend`` ``reprocess`` ``cancel``      a :class:`~rapidsms_db_router.models.BulkAction` that
    ``discard`` ``send_now`` ``move``        begins
    ``stop``                                 a bulk action that ends early
    ``recover``                              ``None``: ``manage.py recover_messages``
    ======================================== =====================================================

``bulk_action_goes_on``
    A chunk of a bulk action, some hundred rows, is about to be done; not sent for the first one, of
    which ``operator_acted`` tells. It is sent inside the transaction that does the chunk, as
    ``operator_acted`` is.
    ``sender``: :class:`~rapidsms_db_router.models.BulkAction`; ``action``: the row;
    ``bulk_actions.next_transmissions(action)`` returns the transmissions of the chunk.

``circuit_opened``
    A backend is out of order, and is not called for a while. It is sent once over all workers, and
    not again until the circuit has closed.
    ``sender``: :class:`~rapidsms_db_router.models.BackendState`; ``backend_name``; ``reason``: in
    one line; ``since``: when that was; ``until``: when the backend is tried again.
``circuit_closed``
    It works again, or an operator has resumed it. ``sender`` and ``backend_name`` as above;
    ``since``: when the circuit was opened; ``until``: when it was closed.
``backlog_old``
    The oldest message that may be sent by a backend has waited for more than ten minutes. It is
    sent once over all workers, and not again until the oldest is younger. A backend that operators
    have paused has no backlog. Recovery looks once in each ``DB_ROUTER_RECOVERY_INTERVAL``.
    ``sender`` and ``backend_name`` as above; ``since``: when the oldest was stored.

One signal goes the other way: code that hears from a gateway sends it, and the router follows.

``delivery_report``
    ``outcome`` and the other arguments of :func:`rapidsms_db_router.reports.record`.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.dispatch import Signal

from rapidsms_db_router.activation import default_locale

__all__ = (
    "backlog_old",
    "bulk_action_goes_on",
    "circuit_closed",
    "circuit_opened",
    "delivery_report",
    "message_processed",
    "operator_acted",
    "recovery_turn",
    "rows_imported",
    "transmissions_delivered",
    "transmissions_errored",
    "transmissions_sent",
)

logger = logging.getLogger(__name__)

message_processed = Signal()
transmissions_sent = Signal()
transmissions_errored = Signal()
transmissions_delivered = Signal()
recovery_turn = Signal()
rows_imported = Signal()
operator_acted = Signal()
bulk_action_goes_on = Signal()
circuit_opened = Signal()
circuit_closed = Signal()
backlog_old = Signal()
delivery_report = Signal()


class _Telling(threading.local):
    """Whether this thread sends a signal of this app."""

    on = False


_telling = _Telling()
# Django logs the words of what a receiver raises, in which there may be anything.
logging.getLogger("django.dispatch").addFilter(lambda record: not _telling.on)


def tell(signal: Signal, **named: Any) -> None:
    """Send ``signal``; log what a receiver raises by its class alone."""
    with default_locale():
        _telling.on = True
        try:
            outcomes = signal.send_robust(**named)
        finally:
            _telling.on = False
    for receiver, outcome in outcomes:
        if isinstance(outcome, Exception):
            name = getattr(receiver, "__qualname__", type(receiver).__name__)
            logger.error("receiver_failed receiver=%s error=%s", name, type(outcome).__name__)
            logger.debug("receiver_failed receiver=%s", name, exc_info=outcome)
