"""Databases are restarted, undo what was begun, and refuse to write."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable

import pytest

from tests.storms.running import BATCH_SIZE, PROCESSES, Storm, size

Passed = Callable[..., object]


def test_database_is_restarted_at_once(storm: Storm, passed: Passed) -> None:
    recipients, restarts = size(1000, 3000), 2
    moments = sorted(storm.random.sample(range(recipients * 3 // 4), restarts))
    storm.work()

    storm.send(recipients)
    for moment in moments:
        storm.until_accepted(moment)
        storm.database_server.restart()

    passed(extra=restarts * PROCESSES * BATCH_SIZE)


def test_transactions_end_later(storm: Storm, passed: Passed) -> None:
    storm.work()

    for commit in (True, False):
        storm.send(300, path="/broadcast-in-transaction/", seconds=1.5, commit=commit)

    passed()
    assert storm.counts() == {"messages": {"OS": 1}, "transmissions": {"OS": 300}, "batches": 0}


def test_database_refuses_to_write(storm: Storm, passed: Passed) -> None:
    storm.ping(0)
    before = storm.counts()
    with storm.database_server.read_only():
        for call in (
            lambda: storm.post_sms("+1", "ping 1"),
            lambda: storm.broadcast("all", ["+1"]),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                call()
            assert refused.value.code == 500
        assert storm.counts() == before
        storm.work()  # which finds nothing that it could do

    passed()
