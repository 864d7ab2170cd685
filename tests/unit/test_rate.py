"""The rate of a backend, granted in advance."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from rapidsms_db_router.limits.rate import GRANT, HORIZON, LATE, Grant, grant, sendable

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def granted(until, segments=1000, first=1, rate=100.0):
    """Return a grant in seconds from now, and how many segments it holds."""
    found = grant(None if until is None else after(until), NOW, rate, segments, first)
    if found is None:
        return None
    start, end = ((moment - NOW).total_seconds() for moment in found)
    return round(start, 6), round((end - start) * rate)


# What is granted


@pytest.mark.parametrize(
    ("slots", "busy", "took", "expected"),
    [
        (100, 0, 0.0, float("inf")),  # how long a call takes is not known
        (100, 0, 0.5, float("inf")),  # 200 a second are more than the rate
        (10, 0, 0.2, 20),  # 10 at once, and 10 behind them within the 0.2 seconds of the grant
        (10, 5, 0.2, 10),
        (10, 10, 0.2, 0),
    ],
)
def test_no_more_is_sendable_than_slots_can_send(slots, busy, took, expected):
    assert sendable(slots, busy, took, 100.0, 1) == pytest.approx(expected)


def test_a_grant_holds_a_quarter_of_a_second():
    assert granted(None) == (0, 100 * GRANT)


def test_no_more_is_granted_than_there_is_to_send():
    assert granted(None, segments=7) == (0, 7)


def test_one_call_is_granted_however_slow_the_rate_is():
    assert granted(None, rate=1 / 60) == (0, 1)
    assert granted(None, first=12, rate=2.0) == (0, 12)


def test_a_grant_begins_where_the_last_one_ends():
    assert granted(0.1) == (0.1, 25)


def test_a_grant_is_never_shorter_than_until_a_sender_asks_again():
    for rate in (5.0, 7.0, 10.0, 13.0, 33.0):
        _, count = granted(None, rate=rate)
        assert GRANT <= count / rate < GRANT + 1 / rate


def test_a_sender_that_asks_a_little_late_loses_nothing():
    assert granted(-0.05) == (-0.05, 30)
    assert granted(-0.05, rate=20.0) == (-0.05, 6)


def test_what_was_not_granted_in_time_is_not_made_up_for():
    assert granted(-LATE - 0.01) == (0, 25)
    assert granted(-3600) == (0, 25)


def test_nothing_is_granted_far_ahead():
    assert granted(HORIZON) == (HORIZON, 25)
    assert granted(HORIZON + 0.01) is None


@pytest.mark.parametrize("rate", [1 / 3600, 1 / 60, 0.5, 1.0, 7.0, 30.0, 300.0, 5000.0])
def test_grants_together_are_the_rate(rate):
    until, segments, seconds = None, 0, max(30.0, 30 / rate)
    moment = NOW
    while (moment - NOW).total_seconds() < seconds:
        found = grant(until, moment, rate, 10**6, 1)
        if found is None:
            moment += timedelta(seconds=max(0.01, 0.01 / rate))
            continue
        start, until = found
        segments += round((until - start).total_seconds() * rate)
    assert segments == pytest.approx(rate * seconds, rel=0.1, abs=2)


# What a sender does with it


def test_calls_are_spaced_evenly():
    mine, calls, moment = Grant(10.0, 10.25, 100.0), [], 9.0
    while moment < 11:
        if mine.allows(moment):
            mine.spend(1, moment)
            calls.append(moment)
        moment = round(moment + 0.001, 3)
    assert len(calls) == 25
    assert calls == pytest.approx([10 + n / 100 for n in range(25)], abs=0.002)


def test_a_call_of_many_segments_takes_as_long():
    mine = Grant(0.0, 0.25, 100.0)
    mine.spend(10, 0.0)
    assert not mine.allows(0.09)
    assert mine.allows(0.1)


def test_a_sender_that_is_late_catches_up_a_little():
    mine = Grant(0.0, 1.0, 100.0)
    moment, calls = 0.5, 0
    while mine.allows(moment):
        mine.spend(1, moment)
        calls += 1
    assert calls == pytest.approx(100 * LATE, abs=1)


def test_a_grant_ends():
    mine = Grant(0.0, 0.25, 100.0)
    assert mine.allows(0.25 + LATE)
    assert not mine.allows(0.26 + LATE)
    assert mine.is_over(0.26 + LATE)


def test_a_grant_that_is_spent_is_over():
    mine = Grant(0.0, 0.25, 100.0)
    mine.spend(25, 0.0)
    assert mine.is_over(0.0)


@pytest.mark.parametrize("each", [1, 2, 3])
def test_a_call_is_no_larger_than_what_is_left(each):
    mine = Grant(0.0, 0.25, 100.0)
    assert mine.fits(each) == 25 // each
    mine.spend(each * (25 // each), 0.0)
    assert mine.fits(each) == 0


def test_a_grant_that_follows_at_once_is_taken_in():
    mine = Grant(0.0, 0.25, 100.0)
    assert mine.extend(Grant(0.25, 0.5, 100.0))
    assert mine.until == 0.5
    assert not mine.extend(Grant(0.7, 0.9, 100.0))
    assert not mine.extend(Grant(0.5, 0.7, 50.0))
    assert mine.until == 0.5
