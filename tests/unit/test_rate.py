"""The rate of a backend, granted in advance."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from math import ceil

import pytest

from rapidsms_db_router.limits.rate import (
    GRANT,
    HORIZON,
    LATE,
    Grant,
    Granted,
    Grants,
    Share,
    grant,
)

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
WHOLE = Share()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def granted(until, segments=1000, first=1, rate=100.0, share=WHOLE):
    """Return in how many seconds a grant begins, and how many segments it holds."""
    found = grant(None if until is None else after(until), NOW, rate, segments, first, share)
    return None if found is None else (round(found.ahead, 6), found.segments)


# What is granted


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Share(), 100),
        (Share(part=0.25), 25),
        # 10 slots, and a call takes half a second
        (Share(most=20.0), 20),
        (Share(part=0.125, most=20.0), 12.5),
    ],
)
def test_a_sender_sends_its_share_in_the_time_of_a_grant(share, expected):
    found = grant(None, NOW, 100.0, 1000, 1, share)
    assert found.pace == pytest.approx(expected)
    assert found.segments == ceil(expected * GRANT)


def test_a_sender_is_granted_what_its_grants_lack():
    assert granted(None, share=Share(held=20)) == (0, 5)
    assert granted(None, share=Share(held=25)) is None
    assert granted(None, first=12, rate=2.0, share=Share(held=12)) is None


def test_what_others_leave_of_their_shares_is_granted():
    assert granted(-0.08, share=Share(part=0.25)) == (-0.08, ceil(25 * GRANT + 8))


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
        found = grant(until, moment, rate, 10**6, 1, WHOLE)
        if found is None:
            moment += timedelta(seconds=max(0.01, 0.01 / rate))
            continue
        until = moment + timedelta(seconds=found.ahead + found.segments / rate)
        segments += found.segments
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


def test_grants_are_sent_one_after_the_other():
    mine = Grants()
    mine.take(Granted(0.0, 5, 20.0), 10.0)
    mine.take(Granted(0.1, 4, 10.0), 10.0)
    assert mine.held(10.0) == 9
    calls, moment = [], 10.0
    while moment < 12:
        if (current := mine.at(moment)) is not None:
            current.spend(1, moment)
            calls.append(moment - 10)
        moment = round(moment + 0.001, 3)
    assert calls == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.45, 0.55], abs=0.002)
    assert mine.held(12.0) == 0 and mine.next_at(12.0) == float("inf")
