"""A real Kannel that is out of order gives nobody up, and everybody is sent the message later."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rapidsms.models import Backend, Connection
from rapidsms.router import lookup_connections, send

from rapidsms_db_router.limits.circuit import Circuit, state_of
from rapidsms_db_router.models import BackendState, Transmission
from rapidsms_db_router.outbound.calls import Threads
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.worker import routers
from tests.acceptance.centre import KannelAtCentre, kannel_at_centre
from tests.acceptance.running import PATIENCE

#: More than Kannel's queue holds.
PEOPLE = int(os.environ.get("DB_ROUTER_TEST_PEOPLE", "40"))
AT_ONCE = 10
#: How many have the message when smsbox is killed.
SOME = 5


@pytest.fixture(scope="module")
def kannel(live_server: Any) -> Iterator[KannelAtCentre]:
    """A Kannel that runs, for all tests of this module."""
    with kannel_at_centre(live_server.url) as kannel:
        yield kannel


@pytest.fixture(autouse=True)
def logs(kannel: KannelAtCentre) -> None:
    """There is no project of its own."""
    kannel.centre.parts.clear()


class Broadcast:
    """A message to many, and the sender that sends it in the thread of the test."""

    def __init__(self, settings: Any, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        self.set()
        people = [f"+2567720{number:05}" for number in range(PEOPLE)]
        self.people: list[Connection] = lookup_connections("phones", people)
        self.message = send("news", self.people).database_message
        self._sender = Sender(Threads(routers.router))

    def set(self, **params: Any) -> None:
        """Have the project's settings say so of the backend's parameters."""
        changed = {**self._options["sendsms_params"], **params}
        self._settings.INSTALLED_BACKENDS = {"phones": {**self._options, "sendsms_params": changed}}

    def go_on_until(self, is_over: Callable[[], bool]) -> None:
        """Step the sender until something is the case."""
        deadline = time.monotonic() + PATIENCE
        self._sender.wake(Backend.objects.get())
        while not is_over():
            assert time.monotonic() < deadline, f"waited in vain: {self.statuses()}"
            self._sender.step()
            self._sender.wait(min(self._sender.next_step(), 0.05))

    def statuses(self) -> Counter[str]:
        """Return how many recipients have each status."""
        return Counter(self.message.transmissions.values_list("status", flat=True))

    def is_open(self) -> bool:
        """Return whether the circuit is open."""
        state = BackendState.objects.filter(open_until__isnull=False).first()
        return state is not None and not self._sender.lanes[state.backend_id].calls

    def is_sent(self) -> bool:
        """Return whether everybody was sent the message."""
        return self.statuses().keys() <= {"S", "D"}

    def nobody_is_given_up(self) -> None:
        """Fail if somebody is."""
        rows = Transmission.objects.filter(status="E", next_try=None)
        assert list(rows.values_list("error", flat=True)) == []


@pytest.fixture
def broadcast(
    transactional_db: None,
    settings: Any,
    celery_setting: Any,
    live_server: Any,
    kannel: KannelAtCentre,
) -> Broadcast:
    """A message to everybody, which no worker knows of."""
    celery_setting("task_always_eager", False)
    settings.DB_ROUTER_RETRY_BACKOFF = 0.1
    options = {**kannel.options(live_server.url), "router.db.concurrency": AT_ONCE}
    return Broadcast(settings, options)


def stop(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    kannel.kill("smsbox")
    kannel.kill("bearerbox")


def start(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    kannel.start_bearerbox()
    kannel.start_smsbox()
    kannel.wait_for_centre()


def wrong_password(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    broadcast.set(password="wrong")


def no_route(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    broadcast.set(smsc="nowhere")


def no_sender(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    broadcast.set(**{"from": ""})


def mend_settings(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    broadcast.set()


def full_queue(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    kannel.centre.go_away()


def empty_queue(kannel: KannelAtCentre, broadcast: Broadcast) -> None:
    kannel.centre.come_back()
    kannel.wait_for_centre()


@pytest.mark.parametrize(
    ("hurt", "mend", "reason"),
    [
        (wrong_password, mend_settings, "AuthorizationFailed: HTTP 403"),
        (no_sender, mend_settings, "WrongParameter: HTTP 400"),
        (no_route, mend_settings, "NotRoutable: HTTP 403"),
        (full_queue, empty_queue, "TemporalFailure: HTTP 503"),
        (stop, start, "ConnectionRefusedError"),
    ],
)
def test_nobody_is_given_up_and_everybody_gets_it_once(
    kannel: KannelAtCentre, broadcast: Broadcast, hurt: Any, mend: Any, reason: str
) -> None:
    hurt(kannel, broadcast)
    broadcast.go_on_until(broadcast.is_open)
    broadcast.nobody_is_given_up()
    assert BackendState.objects.get().reason == reason
    mend(kannel, broadcast)
    broadcast.go_on_until(lambda: broadcast.is_sent() and len(kannel.centre.parts) >= PEOPLE)
    broadcast.nobody_is_given_up()
    got = sorted(part.destination for part in kannel.centre.parts)
    assert got == [person.identity for person in broadcast.people]
    assert state_of(BackendState.objects.get(), broadcast.message.date) is Circuit.CLOSED


def test_when_smsbox_is_killed_only_calls_in_flight_are_repeated(
    kannel: KannelAtCentre, broadcast: Broadcast
) -> None:
    broadcast.go_on_until(lambda: len(kannel.centre.parts) >= SOME)
    kannel.kill("smsbox")
    broadcast.go_on_until(broadcast.is_open)
    broadcast.nobody_is_given_up()
    kannel.start_smsbox()
    broadcast.go_on_until(lambda: broadcast.is_sent() and len(kannel.centre.parts) >= PEOPLE)
    got = Counter(part.destination for part in kannel.centre.parts)
    assert sorted(got) == [person.identity for person in broadcast.people]
    assert got.total() <= PEOPLE + AT_ONCE
