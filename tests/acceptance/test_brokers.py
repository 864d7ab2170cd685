"""Brokers of several kinds: RabbitMQ's quorum queues, Redis behind Sentinel, dead connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import kombu
import pytest
from kombu.exceptions import OperationalError

from rapidsms_db_router.brokers.redis import Channel
from rapidsms_db_router.worker.publisher import within
from tests import servers
from tests.acceptance.project.gateway import REFUSED_ONCE
from tests.acceptance.proxy import Proxy
from tests.acceptance.running import Project, wait_for
from tests.storms.servers import Redis, Sentinel

#: How soon a text is answered, in seconds.
SOON = 5
RECIPIENTS = 60


def a_project(folder: Path, broker: str, **environment: str) -> Iterator[Project]:
    project = Project(folder, database="sqlite", broker=broker, environment=environment)
    try:
        project.create()
        project.start_web()
        yield project
    finally:
        project.drop()


def sent(project: Project) -> list[str]:
    return [record.text for record in project.gateway.records() if record.accepted]


def assert_answers(project: Project, text: str, patience: float = SOON) -> None:
    project.post_sms("+15550100", f"ping {text}")
    wait_for(f"the answer to {text}", lambda: f"pong {text}" in sent(project), patience)


@pytest.fixture(params=["direct", "topic"])
def quorum(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """A project whose queues are quorum queues, with an exchange of either kind."""
    servers.require("rabbitmq")
    yield from a_project(
        tmp_path,
        servers.BROKERS["rabbitmq"],
        DB_ROUTER_TEST_QUORUM=request.param,
        DB_ROUTER_TEST_RATE="20/s",
    )


def test_quorum_queues_hold_up_nothing(quorum: Project) -> None:
    """Neither a rate nor a retry is a task that waits in the broker, in the way of others."""
    worker = quorum.start_worker("-c", "1")
    worker.wait_for_output(" ready.")
    refused = [f"{REFUSED_ONCE}{number:05}" for number in range(10)]

    quorum.broadcast("at a rate", [f"+4{number:05}" for number in range(RECIPIENTS)])
    quorum.broadcast("tried again", refused)
    for number in range(3):
        assert_answers(quorum, str(number))
    wait_for("the rest", lambda: sent(quorum).count("at a rate") == RECIPIENTS)
    wait_for("the retries", lambda: sent(quorum).count("tried again") == len(refused))

    assert "Traceback" not in worker.output()
    assert worker.output().count(" received") < 20, "doorbells, and no task for each batch or retry"


@pytest.fixture
def sentinel() -> Iterator[Sentinel]:
    """Two Redis servers, one of which follows the other, and a Sentinel that watches them."""
    if Sentinel.missing():
        (pytest.fail if servers.ALL_REQUIRED else pytest.skip)("redis-server is not installed")
    with ExitStack() as stack:
        redis = [Redis(), Redis()]
        for each in redis:
            stack.callback(each.remove)
            each.start()
        redis[1].follow(redis[0])
        sentinel = Sentinel(redis[0])
        stack.callback(sentinel.remove)
        sentinel.install()
        sentinel.start()
        yield sentinel


@pytest.fixture
def with_sentinel(sentinel: Sentinel, tmp_path: Path) -> Iterator[Project]:
    yield from a_project(tmp_path, sentinel.url, DB_ROUTER_TEST_SENTINEL=sentinel.master)


@pytest.mark.long
def test_a_worker_follows_a_failover_of_redis(with_sentinel: Project, sentinel: Sentinel) -> None:
    worker = with_sentinel.start_worker()
    worker.wait_for_output(" ready.")
    assert_answers(with_sentinel, "before")

    sentinel.fail_over()

    assert_answers(with_sentinel, "after", patience=30)
    assert worker.runs()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    servers.require("redis")
    where = kombu.utils.url.url_to_parts(servers.BROKERS["redis"])
    proxy = Proxy(where.port or 6379)
    yield proxy
    proxy.close()


@pytest.mark.long
def test_a_dead_connection_to_redis_is_noticed(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a new one is made; without the limits that are shortened here it never is."""
    assert Channel.socket_timeout and Channel.socket_connect_timeout
    monkeypatch.setattr(Channel, "socket_timeout", 1)
    options = {"health_check_interval": 1, "global_keyprefix": "dead connections:"}
    url = f"redis://127.0.0.1:{proxy.port}/0"
    connection = kombu.Connection(url, transport_options=options)

    def look() -> None:
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=1)

    def look_until_noticed() -> None:
        with pytest.raises(connection.connection_errors), connection.Consumer(queue):
            while True:
                try:
                    connection.drain_events(timeout=1)
                except TimeoutError:
                    assert proxy.in_vain < 3

    queue = kombu.Queue("dead")
    with connection.Consumer(queue):
        look()
        proxy.die()
        try:
            within(15, look_until_noticed)
        except OperationalError:
            pytest.fail("never noticed")
