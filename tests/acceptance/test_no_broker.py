"""Without a broker, messages are stored all the same, soon, and nobody is left to guess why."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.running import Project

#: What receive() and send() may take in a request, in seconds: two, and one more
#: for a machine that is slow or busy.
SOON = 3
#: How long a worker may take to start and to say that it finds no broker, in seconds.
SOON_IN_A_WORKER = 20


@pytest.fixture(params=["closed", "silent"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that refuses connections, or one that takes them and never says a word."""
    with socket.socket() as broker:
        broker.bind(("127.0.0.1", 0))
        if request.param == "silent":
            broker.listen(64)
        yield broker.getsockname()[1]


@pytest.fixture(params=["amqp", "redis"])
def broker(request: pytest.FixtureRequest, project: Project, port: int) -> Iterator[str]:
    """The project's broker, which does not work."""
    project.broker = f"{request.param}://someone:secret@127.0.0.1:{port}//"
    yield project.broker
    project.stop()


def test_messages_are_stored_within_two_seconds(project: Project, broker: str) -> None:
    web = project.start_web()
    before = len(project.messages())

    for say in (
        lambda: project.post_sms("+1000", "ping 1"),
        lambda: project.broadcast("to all", ["+1000", "+1001"]),
    ):
        start = time.monotonic()
        say()
        assert time.monotonic() - start < SOON

    received, sent = project.messages()[before:]
    assert (received["text"], received["status"]) == ("ping 1", "Q")
    assert (sent["text"], sent["status"]) == ("to all", "Q")
    rows = received["transmissions"] + sent["transmissions"]
    assert [row["status"] for row in rows] == ["Q"] * 3
    assert web.output().count("publishing_failed") == 2, "one line for each message"
    assert "Traceback" not in web.output()


def test_worker_says_that_no_broker_answers(project: Project, broker: str) -> None:
    worker = project.start_worker()

    worker.wait_for_output("No broker answers at", SOON_IN_A_WORKER)
    worker.wait_for_output("The worker goes on trying.")

    assert "CELERY_BROKER_URL" in worker.output()
    assert "secret" not in worker.output()
    assert "Traceback" not in worker.output()
