"""Databases are restarted, are away, undo what was begun, refuse to write, and end deadlocks."""

from __future__ import annotations

import itertools
import time
import urllib.error
from collections.abc import Callable
from functools import partial

import pytest

from tests.storms.running import CALLS, DEFAULT_DATES, IN_FLIGHT, LATE, Figures, Storm, size
from tests.storms.servers import Database

#: How long a database is away, and how soon after its return all has to be done, in seconds.
AWAY, SOON = 10, 15

Passed = Callable[..., Figures]


@pytest.mark.table
def test_database_is_restarted_at_once(storm: Storm, passed: Passed) -> None:
    recipients, restarts = size(1000, 3000), 2
    moments = sorted(storm.random.sample(range(recipients * 3 // 4), restarts))
    storm.work(**DEFAULT_DATES)

    with storm.another_web(**DEFAULT_DATES):
        storm.send(recipients)
        for moment in moments:
            storm.until_accepted(moment)
            storm.database_server.restart()

        assert passed().seconds <= SOON


def is_down(storm: Storm) -> None:
    """Have the database be stopped."""
    with storm.database_server.down():
        time.sleep(AWAY)


def refuses_writes(storm: Storm) -> None:
    """Have the database refuse to write, as one that is a replica now."""
    with storm.database_server.read_only():
        time.sleep(AWAY)


def has_no_connection_left(storm: Storm) -> None:
    """Have others use up the connections of the database."""
    assert storm.database_server.crowd(AWAY), "no connection was refused"


@pytest.mark.table
@pytest.mark.parametrize("fault", [is_down, refuses_writes, has_no_connection_left])
def test_database_is_away(storm: Storm, passed: Passed, fault: Callable[[Storm], None]) -> None:
    """For ten seconds, while workers have calls in flight and run apps."""
    recipients, pings = size(600, 1500), 40
    one_a_call = {"DB_ROUTER_TEST_CALL_SIZE": "1", "DB_ROUTER_TEST_GATEWAY_SECONDS": "0.3"}
    storm.work(2, **DEFAULT_DATES, **one_a_call)

    with storm.another_web(**DEFAULT_DATES, **one_a_call):
        storm.send(recipients)
        storm.until_accepted(storm.random.randrange(recipients // 4))
        for number in range(pings):
            storm.ping(number)
        fault(storm)

        at_the_gateways_speed = recipients * 0.3 / CALLS
        assert passed().seconds <= SOON + at_the_gateways_speed
    assert all(worker.runs() for worker in storm.workers)


@pytest.mark.table
def test_transactions_end_later(storm: Storm, passed: Passed) -> None:
    storm.work()

    for commit in (True, False):
        storm.send(300, path="/broadcast-in-transaction/", seconds=1.5, commit=commit)

    passed()
    assert storm.counts() == {"messages": {"OS": 1}, "transmissions": {"OS": 300}, "batches": 0}


def test_database_is_read_only(storm: Storm, passed: Passed) -> None:
    storm.ping(0)
    before = storm.counts()

    with storm.database_server.read_only():
        # the first from someone who is stored already
        for call in (lambda: storm.ping(50), lambda: storm.ping(1), lambda: storm.send(1)):
            refused(call)
        assert storm.counts() == before
        storm.work()  # which finds nothing that it could do

    passed()


def test_database_is_full(storm: Storm, passed: Passed) -> None:
    with storm.database_server.full():
        for recipients in (2000, 200, 20, 1):
            until_refused(storm, partial(storm.send, recipients))
        numbers = itertools.count()
        for _ in range(5):
            until_refused(storm, lambda: storm.ping(next(numbers)))

    storm.work(2, DB_ROUTER_TEST_GATEWAY_SECONDS="0")

    passed()


def until_refused(storm: Storm, call: Callable[[], None]) -> None:
    """Call until the database has no room for it."""
    deadline = time.monotonic() + LATE
    while True:
        before = storm.counts()
        try:
            call()
        except urllib.error.HTTPError as err:
            assert err.code == 500
            assert storm.counts() == before, "something of it is stored all the same"
            return
        assert time.monotonic() < deadline, before


def refused(call: Callable[[], None]) -> None:
    """Call in vain."""
    with pytest.raises(urllib.error.HTTPError) as error:
        call()
    assert error.value.code == 500


@pytest.mark.parametrize("status", ["Q", "P"])
def test_deadlocks(storm: Storm, passed: Passed, status: str) -> None:
    """Of a worker that takes a batch (its rows are Q), or writes down how one ended (P)."""
    database, wanted = storm.database_server, size(2, 10)
    ended, ours = database.deadlocks(), 0
    # so many rows of one call that a worker's statement about them can be met in its middle
    storm.work(DB_ROUTER_TEST_GATEWAY_SECONDS="0.3", DB_ROUTER_TEST_CALL_SIZE="50")

    deadline = time.monotonic() + LATE
    while database.deadlocks() - ended - ours < wanted:
        assert time.monotonic() < deadline, f"{database.deadlocks() - ended} deadlocks"
        storm.send(2 * IN_FLIGHT)
        ours += lock_against_workers(database, status)

    passed()


def lock_against_workers(database: Database, status: str) -> bool:
    """Lock rows, the last one first, of a batch that a worker is about to write to.

    :returns: whether the database ended this transaction, instead of the worker's.
    """
    table = "rapidsms_db_router_transmission"
    with database.connect(database.database) as execute:
        rows = execute(f"SELECT id FROM {table} WHERE status = '{status}' ORDER BY id")
        if not rows:
            return False
        (last,) = rows[:IN_FLIGHT][-1]
        # MariaDB ends the transaction that has written less
        execute("CREATE TABLE IF NOT EXISTS ballast (weight BIGINT)")
        execute("BEGIN")
        execute(f"INSERT INTO ballast VALUES {', '.join(['(1)'] * 1000)}")
        execute(f"SELECT id FROM {table} WHERE id = {last} FOR UPDATE")
        deadline = time.monotonic() + 1
        while not database.waiting() and time.monotonic() < deadline:
            time.sleep(0.01)
        before = f"id BETWEEN {last - IN_FLIGHT} AND {last - 1}"
        try:
            execute(f"SELECT id FROM {table} WHERE {before} ORDER BY id DESC FOR UPDATE")
        except Exception as err:  # each driver has its own errors
            assert "deadlock" in str(err).lower()
            return True
        execute("ROLLBACK")
        return False
