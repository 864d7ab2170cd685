"""When to try again."""

import pytest

from rapidsms_db_router.backoff import LONGEST_DELAY, delay


@pytest.mark.parametrize(
    ("attempts", "backoff", "jitter", "expected"),
    [
        (1, 60, 0, 60),
        (2, 60, 0, 120),
        (3, 60, 0, 240),
        (6, 60, 0, 1920),
        (1, 0.5, 0, 0.5),
        # within a quarter to both sides
        (1, 60, -1, 45),
        (1, 60, 1, 75),
        (3, 60, -1, 180),
        # never more than an hour
        (7, 60, 0, 3600),
        (7, 60, -1, 2700),
        (7, 60, 1, 3600),
        (6, 100, 1, 3600),
        (1, 10**9, 0, 3600),
        (10_000, 60, 0, 3600),
        # a backoff so small that it is never past the hour is still bounded
        (10_000, 1e-9, 0, 1e-9 * 2**20),
    ],
)
def test_delay_doubles_up_to_an_hour(attempts, backoff, jitter, expected):
    assert delay(attempts, backoff, jitter) == pytest.approx(expected)


def test_delay_without_a_jitter_lands_somewhere_in_the_spread():
    delays = [delay(1, 60) for _ in range(200)]
    assert all(45 <= seconds <= 75 for seconds in delays)
    assert len(set(delays)) > 1


def test_delay_never_exceeds_the_longest():
    assert max(delay(attempts, 60) for attempts in range(1, 100)) <= LONGEST_DELAY
