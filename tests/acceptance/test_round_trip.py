"""An SMS comes in over HTTP and a worker answers it; a broadcast goes out and is tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import servers
from tests.acceptance.project.gateway import REFUSED_ALWAYS, REFUSED_ONCE, Record
from tests.acceptance.running import Project, wait_for

PINGS = 200
#: Each of them sends several messages, and all at the same time.
PEOPLE = 50
RECIPIENTS = 1000
TRIES = 3  # the first, and DB_ROUTER_MAX_RETRIES

COMBINATIONS = {
    "postgres-redis": {"package": "project_with_celery", "atomic_requests": True},
    "mariadb-rabbitmq": {"package": "project", "atomic_requests": False},
    "sqlite-filesystem": {"package": "project", "atomic_requests": False},
}


@pytest.fixture(scope="module", params=COMBINATIONS)
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A migrated project with its web server and its worker running."""
    database, broker = request.param.split("-")
    servers.require(*({database, broker} & servers.CONNECT.keys()))
    project = Project(
        tmp_path_factory.mktemp(request.param),
        database=database,
        broker=servers.BROKERS.get(broker, f"{broker}://"),
        **COMBINATIONS[request.param],
    )
    try:
        project.create()
        worker = project.start_worker()
        project.start_web()
        worker.wait_for_output(" ready.")
        yield project
    finally:
        project.drop()


def test_each_ping_is_answered_once(project: Project) -> None:
    pings = [(f"+1{number % PEOPLE:04}", f"ping {number}") for number in range(PINGS)]

    with ThreadPoolExecutor(8) as gateway:
        list(gateway.map(lambda ping: project.post_sms(*ping), pings))

    def all_answered() -> list[dict[str, Any]] | None:
        messages = project.messages()
        ended = [message for message in messages if message["status"] in "RSE"]
        return messages if len(ended) == 2 * PINGS else None

    messages = wait_for("all pings to be answered", all_answered)

    inbound = {message["text"]: message for message in messages if message["direction"] == "I"}
    replies = {message["text"]: message for message in messages if message["direction"] == "O"}
    assert len(inbound) == len(replies) == PINGS
    for identity, text in pings:
        received, reply = inbound[text], replies[text.replace("ping", "pong")]
        assert status_of(received) == ("R", {identity: "R"})
        assert status_of(reply) == ("S", {identity: "S"})
        assert reply["in_response_to__text"] == text
        assert reply["sent"]
        assert reply["transmissions"][0]["sent"]
    assert sorted(record[1:] for record in sent_by(project, replies.values())) == sorted(
        (identity, text.replace("ping", "pong"), True) for identity, text in pings
    )


def test_broadcast_is_tried_again_until_sent_or_given_up(project: Project) -> None:
    refused = {REFUSED_ONCE: range(50), REFUSED_ALWAYS: range(20)}
    never_refused = [f"+4{number:05}" for number in range(RECIPIENTS - 70)]
    once, always = (
        [f"{prefix}{number:05}" for number in numbers] for prefix, numbers in refused.items()
    )

    partly = project.broadcast("to all", never_refused + once + always)
    wholly = project.broadcast("to most", never_refused[:100] + once)

    def ended() -> list[dict[str, Any]] | None:
        found = [message for message in project.messages() if message["id"] in (partly, wholly)]
        tried = [row for message in found for row in message["transmissions"]]
        done = all(row["status"] == "S" or is_given_up(row) for row in tried)
        return found if done and {message["status"] for message in found} <= {"S", "E"} else None

    to_all, to_most = wait_for("the broadcasts to end", ended)

    assert to_most["status"] == "S"
    assert to_most["sent"]
    assert to_all["status"] == "E"
    for row in (*to_all["transmissions"], *to_most["transmissions"]):
        identity = row["connection__identity"]
        if identity in always:
            assert (row["status"], row["attempts"], row["sent"]) == ("E", TRIES, None)
            assert "The gateway refused." in row["error"]
        else:
            assert (row["status"], row["attempts"]) == ("S", 2 if identity in once else 1)
            assert row["sent"]
            assert not row["error"]
    # the gateway agrees: once for each number, and no more
    tries = Counter((record.identity, record.accepted) for record in sent_by(project, [to_all]))
    assert tries == (
        dict.fromkeys([(identity, True) for identity in never_refused + once], 1)
        | dict.fromkeys([(identity, False) for identity in once], 1)
        | dict.fromkeys([(identity, False) for identity in always], TRIES)
    )


def status_of(message: dict[str, Any]) -> tuple[str, dict[str, str]]:
    transmissions = message["transmissions"]
    return message["status"], {row["connection__identity"]: row["status"] for row in transmissions}


def is_given_up(row: dict[str, Any]) -> bool:
    return row["status"] == "E" and row["next_try"] is None


def sent_by(project: Project, messages: Any) -> list[Record]:
    ids = {message["id"] for message in messages}
    return [record for record in project.gateway.records() if record.message_id in ids]
