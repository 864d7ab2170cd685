"""Brokers forget, are away, come back empty, lose their clients, and refuse to write."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from tests.storms.running import IN_FLIGHT, Storm, size
from tests.storms.servers import Redis

#: What one call of ``receive()`` or ``send()`` may take without a broker, in seconds: two, and one
#: more for a machine that is slow or busy.
SOON = 3
#: How long Redis refuses to write, in seconds.
REFUSES = 5

Passed = Callable[..., object]


@pytest.mark.table
def test_broker_is_emptied(storm: Storm, passed: Passed) -> None:
    recipients = size(2000, 12_000)
    storm.work()

    storm.send(recipients)
    storm.until_accepted(recipients // 3)
    storm.broker_server.empty()

    passed()


@pytest.mark.table
def test_broker_is_away_when_messages_come(storm: Storm, passed: Passed) -> None:
    pings, broadcasts = size(100, 1000), 5
    calls: list[Callable[[], None]] = []
    calls += [lambda number=number: storm.ping(number) for number in range(pings)]
    calls += [lambda: storm.send(50) for _ in range(broadcasts)]

    with storm.broker_server.down():
        with ThreadPoolExecutor(4) as callers:
            list(callers.map(lambda call: call(), calls))
        assert storm.longest_call() < SOON
        # else the time is that of many short calls of the gateway, one for each answer
        storm.work(ready=False, DB_ROUTER_TEST_GATEWAY_SECONDS="0")

    passed()


def test_broker_is_restarted(storm: Storm, passed: Passed) -> None:
    recipients = size(1000, 3000)
    storm.work()

    storm.send(recipients)
    storm.until_accepted(storm.random.randrange(recipients // 2))
    with storm.broker_server.down():
        storm.send(50)

    passed()


def test_workers_outlive_their_broker(storm: Storm, passed: Passed) -> None:
    storm.work(2)

    for number in range(size(3, 10)):
        before = storm.progress()
        storm.send(5 * IN_FLIGHT)
        # so that each has something in hand
        storm.until_accepted(before + IN_FLIGHT)
        with storm.broker_server.down():
            storm.ping(number)

    passed()
    assert all(worker.runs() for worker in storm.workers)


def test_connections_are_cut(storm: Storm, passed: Passed) -> None:
    recipients = size(1000, 3000)
    moments = sorted(storm.random.sample(range(recipients // 2), 2))
    storm.work()

    storm.send(recipients)
    for moment in moments:
        storm.until_accepted(moment)
        storm.broker_server.cut()
        storm.database_server.cut()

    passed()


@pytest.mark.table
@pytest.mark.parametrize("fault", [Redis.out_of_memory, Redis.demoted])
def test_redis_refuses_to_write(
    storm: Storm, passed: Passed, fault: Callable[[Redis], AbstractContextManager[None]]
) -> None:
    """As after a failover, or with its memory full."""
    if not isinstance(storm.broker_server, Redis):
        pytest.skip("another broker")
    recipients, pings = size(600, 1500), 20
    storm.work(2, DB_ROUTER_TEST_CALL_SIZE="1")

    storm.send(recipients)
    storm.until_accepted(storm.random.randrange(recipients // 4))
    for number in range(pings):
        storm.ping(number)
    with fault(storm.broker_server):
        end = time.monotonic() + REFUSES
        for number in range(pings, 2 * pings):
            storm.ping(number)
        storm.send(10)
        time.sleep(max(end - time.monotonic(), 0))

    passed()
    assert storm.longest_call() < SOON
    assert all(worker.runs() for worker in storm.workers)
