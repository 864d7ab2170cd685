"""A batch in the memory of the sender that has claimed it."""

from __future__ import annotations

import copy
import uuid
from collections import deque
from collections.abc import Iterable

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.outbound.completion import Completion

#: A call that is refused as a whole is divided, for one recipient may be the reason. After this
#: many refused calls of a batch without a success nothing more is divided.
MOST_REFUSED = 16


class HeldBatch:
    """What is left of a claimed batch.

    :param batch: as it was claimed; its message is loaded.
    :param recipients: those of its transmissions that are Q, in the order of the batch.
    """

    def __init__(self, batch: Batch, recipients: Iterable[Recipient]) -> None:
        self.id: int = batch.pk
        self.token: uuid.UUID = batch.claim_token  # type: ignore[assignment]  # it is claimed
        self.message: Message = batch.message
        self.position = batch.position
        #: Recipients to be called.
        self.pending: deque[Recipient] = deque(recipients)
        #: Whether it holds all transmissions of its message, and all of them were sent so far.
        self.whole = batch.whole and len(self.pending) == len(batch.transmission_ids)
        #: Recipients to be called together, since a larger call was refused.
        self.divided: deque[list[Recipient]] = deque()
        #: Transmissions in flight.
        self.in_flight: set[int] = set()
        #: Transmissions that will be tried again at a date: E.
        self.retried: list[int] = []
        #: Transmissions that wait in Q for the gateway: their try did not count.
        self.requeued: list[int] = []
        #: In how many seconds those two are due, from the end of the batch on.
        self.retry_in = 0.0
        #: Calls that were refused as a whole, until one succeeds.
        self.refused = 0
        #: Whether operators have paused its message: it is given back once nothing is in flight.
        self.paused = False

    def copy(self, *, paused: bool) -> HeldBatch:
        """Return a copy that a step may change before it is known whether its commit succeeds."""
        other = copy.copy(self)
        other.paused = paused
        other.pending, other.divided = self.pending.copy(), self.divided.copy()
        other.in_flight = self.in_flight.copy()
        other.retried, other.requeued = self.retried.copy(), self.requeued.copy()
        return other

    @property
    def waiting(self) -> int:
        """How many recipients are to be called now."""
        return 0 if self.paused else len(self.pending) + sum(map(len, self.divided))

    @property
    def left(self) -> list[int]:
        """The transmissions that are neither in flight nor done, in the order for another try."""
        divided = [row.id for rows in self.divided for row in rows]
        return [*divided, *(row.id for row in self.pending), *self.requeued, *self.retried]

    def next_rows(self, size: int, busy: set[int]) -> list[Recipient]:
        """Take the recipients of the next call.

        :param size: how many one call may carry.
        :param busy: connections that are not to be called now, since a message to them is in
            flight; each that is returned is added.
        """
        if self.divided and not busy & {row.connection_id for row in self.divided[0]}:
            rows = self.divided.popleft()
        else:
            rows = []
            passed: list[Recipient] = []
            while self.pending and len(rows) < size:
                row = self.pending.popleft()
                (passed if row.connection_id in busy else rows).append(row)
            self.pending.extendleft(reversed(passed))
        busy.update(row.connection_id for row in rows)
        return rows

    def complete(self, done: Completion) -> None:
        """Take in how a call has ended."""
        self.in_flight -= {row.id for row in done.call.rows}
        if done.sent:
            self.refused = 0
        if done.divided:
            self.refused += 1
            middle = len(done.requeued) // 2
            self.divided.extend((done.requeued[:middle], done.requeued[middle:]))
        else:
            self.requeued += (row.id for row in done.requeued)
        self.retried += (failure.row.id for failure in done.retried)
        self.retry_in = max(self.retry_in, done.retry_in)
        if len(done.sent) < len(done.call.rows) and not done.divided:
            self.whole = False

    def drop_pending(self) -> None:
        """Call no more recipients: the message has expired."""
        self.pending.clear()
        self.divided.clear()
        self.requeued, self.retried = [], []


def in_order(held: dict[int, HeldBatch]) -> list[HeldBatch]:
    """Return batches in the order in which they are to be sent."""
    return sorted(held.values(), key=lambda batch: (batch.position, batch.id))
