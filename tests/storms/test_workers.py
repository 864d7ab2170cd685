"""Workers are killed, ended, replaced, told twice, slow, many, and wrong about the time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.running import Process
from tests.storms.running import AT_A_KILL, CALLS, DEFAULT_DATES, IN_FLIGHT, SOON, Storm, size

SHIFTED_CLOCK = Path(__file__).parent / "shifted_clock"

#: One SMS a call, at a gateway of 300 ms.
ONE_A_CALL = {"DB_ROUTER_TEST_CALL_SIZE": "1", "DB_ROUTER_TEST_GATEWAY_SECONDS": "0.3"}

Passed = Callable[..., object]


@pytest.mark.table
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_workers_are_killed(storm: Storm, passed: Passed, pool: str) -> None:
    recipients, kills = size(1000, 3000), size(2, 4)
    moments = sorted(storm.random.sample(range(recipients * 9 // 10), kills))
    print(f"to be killed after {moments} of {recipients} SMS")
    storm.work(1, f"--pool={pool}")

    storm.send(recipients)
    for moment in moments:
        storm.until_accepted(moment)
        storm.kill_workers()
        storm.work(1, f"--pool={pool}", ready=False)

    passed(extra=kills * AT_A_KILL)


@pytest.mark.table
def test_processes_of_a_pool_are_killed(storm: Storm, passed: Passed) -> None:
    """As by a kernel that is out of memory; the worker starts others."""
    recipients, kills = size(600, 1500), size(2, 4)
    moments = sorted(storm.random.sample(range(recipients * 3 // 4), kills))
    storm.work(1, **ONE_A_CALL)

    storm.send(recipients)
    for moment in moments:
        storm.until_accepted(moment)
        storm.ping(moment)
        os.kill(storm.random.choice(storm.processes_of(storm.workers[0])), signal.SIGKILL)

    passed(extra=kills * 2 * CALLS)


def alone(worker: Process) -> None:
    """Terminate a worker."""
    worker.send_signal(signal.SIGTERM)


def with_its_processes(worker: Process) -> None:
    """Terminate a whole process group, as systemd does."""
    worker.send_signal_to_all(signal.SIGTERM)


@pytest.mark.table
@pytest.mark.parametrize("terminate", [alone, with_its_processes])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_worker_is_terminated(
    storm: Storm, passed: Passed, pool: str, terminate: Callable[[Process], None]
) -> None:
    """In the middle of a broadcast; another worker goes on."""
    recipients = size(600, 1500)
    storm.work(1, f"--pool={pool}", **DEFAULT_DATES, **ONE_A_CALL)

    with storm.another_web(**DEFAULT_DATES, **ONE_A_CALL):
        storm.send(recipients)
        storm.until_accepted(storm.random.randrange(20, recipients // 2))
        storm.ping(1)
        (old,) = storm.workers
        terminate(old)
        storm.work(1, f"--pool={pool}", **DEFAULT_DATES, **ONE_A_CALL)
        passed()

    assert old.wait() == 0


@pytest.mark.table
@pytest.mark.parametrize("option", ["--max-tasks-per-child=1", "--autoscale=4,1"])
def test_processes_of_a_pool_come_and_go(storm: Storm, passed: Passed, option: str) -> None:
    recipients, pings, bursts = size(600, 1500), 10, size(2, 4)
    numbers = iter(range(bursts * pings))
    storm.work(1, option, **DEFAULT_DATES, **ONE_A_CALL, AUTOSCALE_KEEPALIVE="1")

    with storm.another_web(**DEFAULT_DATES, **ONE_A_CALL):
        for _ in range(bursts):
            before = storm.progress()
            storm.send(recipients // bursts)
            for _ in range(pings):
                storm.ping(next(numbers))
            storm.until_accepted(before + pings + recipients // bursts // 2)

        # some fifty processes start one after the other, each with all of the project
        passed(soon=4 * SOON)


@pytest.mark.table
def test_every_task_is_delivered_four_times(storm: Storm, passed: Passed) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.storms.project_that_repeats.settings"}
    recipients = size(610, 3050)
    storm.work(2, **settings)
    with storm.another_web(**settings):
        storm.send(recipients)
        for number in range(20):
            storm.ping(number)

    passed()


@pytest.mark.table
def test_many_messages_end_on_many_processes(storm: Storm, passed: Passed) -> None:
    storm.work(2, DB_ROUTER_TEST_GATEWAY_SECONDS="0")

    for _ in range(40):
        storm.send(250)

    passed()


def test_clocks_of_two_workers_differ(storm: Storm, passed: Passed) -> None:
    """Also of a retry that one of them puts off and the other makes."""
    path = os.pathsep.join(filter(None, [str(SHIFTED_CLOCK), os.environ.get("PYTHONPATH")]))
    storm.work(1)
    storm.work(1, PYTHONPATH=path, STORMS_CLOCK_SHIFT="30")

    storm.send(size(1000, 3000), refused=100)
    for number in range(20):
        storm.ping(number)

    passed()


def test_new_workers_take_over_from_those_that_are_stopped(storm: Storm, passed: Passed) -> None:
    recipients = size(1000, 3000)
    storm.work(2, **DEFAULT_DATES)

    with storm.another_web(**DEFAULT_DATES):
        storm.send(recipients)
        storm.until_accepted(storm.random.randrange(recipients // 2))
        old = storm.workers.copy()
        for worker in old:
            worker.send_signal(signal.SIGTERM)
        storm.work(2, **DEFAULT_DATES)
        passed()

    assert [worker.wait() for worker in old] == [0, 0]


def test_call_that_takes_longer_than_the_visibility_timeout(storm: Storm, passed: Passed) -> None:
    storm.work(2, DB_ROUTER_TEST_GATEWAY_SECONDS="9")

    storm.send(IN_FLIGHT)

    passed()
