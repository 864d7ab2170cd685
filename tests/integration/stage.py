"""Senders that a test steps, a clock that stands still, and a gateway that answers on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router.models import BackendState, Message
from rapidsms_db_router.outbound.calls import Call, Job
from rapidsms_db_router.outbound.response import SendResponse
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.worker import host
from tests.integration.clocks import Clock
from tests.integration.executors import SlowGateway

#: Steps after which a sender should have come to an end.
MOST = 20_000

Answer = Callable[[Call], Exception | None]


def accept(call: Call) -> None:
    """Answer that the gateway took it."""


class Gateway(SlowGateway):
    """Knows which calls are in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: list[int] = []

    def start(self, call: Call, ended: Callable[[Call, SendResponse], None]) -> None:
        """Begin a call."""
        self.in_flight.append(len(self.calls))
        super().start(call, ended)

    def run(self, job: Job) -> None:
        """Run a job at once."""
        job()

    def answer(self, number: int, error: Exception | None = None, returned: Any = None) -> None:
        """End a call, by its number."""
        self.in_flight.remove(number)
        super().answer(number, error, returned)

    @property
    def identities(self) -> list[str]:
        """The recipients of all calls, in order."""
        return [row.identity for call in self.calls for row in call.rows]

    @property
    def texts(self) -> list[str]:
        """The texts of all calls, in order."""
        return [call.message.text for call in self.calls]


class Stage:
    """Senders of one backend, ``phones``, and all that they share.

    :param worker: stores messages, and runs the tasks of inbound ones.
    :param senders: how many there are.
    """

    def __init__(self, worker: Any, monkeypatch: pytest.MonkeyPatch, senders: int = 1) -> None:
        self.worker = worker
        self.clock = Clock(monkeypatch)
        self.gateways: list[Gateway] = []
        self.senders: list[Sender] = []
        #: When each call was made, and of which segments.
        for _ in range(senders):
            self.add_sender()
        monkeypatch.setattr(host, "_stepped", self.sender)

    def add_sender(self) -> Sender:
        """Add a sender, with a gateway of its own."""
        self.gateways.append(Gateway())
        self.senders.append(Sender(self.gateways[-1], clock=self.clock))
        return self.senders[-1]

    @property
    def sender(self) -> Sender:
        """The first sender."""
        return self.senders[0]

    @property
    def gateway(self) -> Gateway:
        """The gateway of the first sender."""
        return self.gateways[0]

    @property
    def calls(self) -> int:
        """How many calls all senders have made."""
        return sum(len(gateway.calls) for gateway in self.gateways)

    @property
    def in_flight(self) -> int:
        """How many calls of all senders are in flight."""
        return sum(len(gateway.in_flight) for gateway in self.gateways)

    def store(self, connections: list[Connection], text: str = "news") -> Message:
        """Store a message; every sender hears of it."""
        with self.worker.commit():
            message: Message = send(text, connections).database_message
        self.worker.take()
        self.wake()
        return message

    def receive(self, text: str, connection: Connection) -> None:
        """Have the apps answer a message; the first sender gets the reply."""
        with self.worker.commit():
            receive(text, connection)
        self.worker.work()

    def wake(self) -> None:
        """Have every sender look."""
        for backend in Backend.objects.all():
            for sender in self.senders:
                sender.wake(backend)

    def step(self) -> None:
        """Have every sender make one step."""
        for sender in self.senders:
            sender.step()

    def answer(self, answer: Answer = accept) -> None:
        """End every call that is in flight."""
        for gateway in self.gateways:
            for number in list(gateway.in_flight):
                gateway.answer(number, answer(gateway.calls[number]))

    def play(self, answer: Answer = accept, seconds: float = 0.0) -> None:
        """Step as long as there is something to do; every call is answered at once.

        :param answer: says how a call ends.
        :param seconds: for so long time passes.
        """
        end = self.clock.seconds + seconds
        for _ in range(MOST):
            self.step()
            if self.in_flight:
                self.answer(answer)
                continue
            pause = min(sender.next_step() for sender in self.senders)
            if self.clock.seconds + pause > end:
                break
            self.clock.go_on(max(pause, 0.001 if seconds else 0.0))
        else:
            raise AssertionError("The senders come to no end.")
        self.clock.go_on(max(end - self.clock.seconds, 0.0))
        self.step()


def statuses(message: Message) -> str:
    """Return the letters of a message's transmissions."""
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return "".join(rows)


def state() -> BackendState:
    """Return what is known of the one backend."""
    return BackendState.objects.get()
