"""How fast a sender sends, as operators see it."""

from __future__ import annotations

from rapidsms_db_router.limits.pace import WINDOW, Pace


def test_the_pace_is_that_of_the_last_seconds():
    pace = Pace()
    assert pace.at(0.0) == 0
    for tenth in range(10 * WINDOW):
        pace.add(3, 100 + tenth / 10)
    assert pace.at(100 + WINDOW - 0.1) == 30
    assert 10 < pace.at(100 + 1.5 * WINDOW) < 20
    assert pace.at(100 + 3 * WINDOW) == 0


def test_what_was_sent_long_ago_is_forgotten():
    pace = Pace()
    for second in range(1000):
        pace.add(1, second)
        assert pace.at(second) <= 1
    assert len(pace._seconds) <= WINDOW
