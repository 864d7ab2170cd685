"""Messages that kill each process that works on them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.storms.project.gateway import POISON, POISON_LOG
from tests.storms.running import Storm

#: A message is given up after so many starts more than the first.
RETRIES = 2
#: Messages of others, which have to go on.
PINGS = 10


def starts(storm: Storm) -> int:
    """Return how many processes the poison has killed."""
    log = storm.folder / POISON_LOG
    return len(log.read_text().splitlines()) if log.exists() else 0


def messages(storm: Storm, text: str) -> list[dict[str, Any]]:
    return [message for message in storm.messages() if message["text"] == text]


def end(storm: Storm) -> dict[str, Any]:
    """Wait until the poison has ended, and all the others; return its message."""
    storm.until(lambda: messages(storm, POISON)[0]["status"] == "E")
    storm.until(storm.is_whole)
    (poison,) = messages(storm, POISON)
    assert starts(storm) == RETRIES + 1
    assert storm.workers[0].runs()
    return poison


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
def test_inbound_poison_is_given_up(storm: Storm, atomic: bool) -> None:
    environment = {"DB_ROUTER_TEST_MAX_RETRIES": str(RETRIES)}
    if atomic:
        environment["DB_ROUTER_TEST_ATOMIC_RECEIVE"] = "yes"
    storm.work(1, **environment)

    storm.post_sms("+1000", POISON)
    for number in range(PINGS):
        storm.ping(number)

    assert end(storm)["error"] == f"worker died {RETRIES + 1} times"
    for number in range(PINGS):
        (answer,) = messages(storm, f"pong {number}")
        assert answer["status"] == "S"


def test_outbound_poison_is_given_up(storm: Storm) -> None:
    storm.work(1, DB_ROUTER_TEST_MAX_RETRIES=str(RETRIES))

    storm.broadcast(POISON, ["+1000"])
    storm.until(lambda: starts(storm) > 0)
    for number in range(PINGS):
        storm.ping(number)

    (row,) = end(storm)["transmissions"]
    assert (row["status"], row["next_try"]) == ("E", None)
    assert row["error"] == "worker died in the last try"
    for number in range(PINGS):
        (answer,) = messages(storm, f"pong {number}")
        assert answer["status"] == "S"
