"""How long to wait before the next try: a pure function of how often something was tried."""

from __future__ import annotations

import random

#: No two tries are further apart than this, in seconds.
LONGEST_DELAY = 3600.0
#: Delays are spread by up to this part of them, so that batches that failed together do not all
#: come back together.
JITTER = 0.25


def delay(attempts: int, backoff: float, jitter: float | None = None) -> float:
    """Return how long to wait before the next try.

    :param attempts: tries made so far, at least 1.
    :param backoff: the delay after the first try, in seconds; it doubles with each further one.
    :param jitter: where in the spread to land, from -1 (a quarter sooner) to 1 (a quarter
        later); drawn at random if not given.
    :returns: seconds, never more than an hour.
    """
    if jitter is None:
        jitter = random.uniform(-1, 1)
    # 2**20 times any backoff of note is past the hour: higher powers would only overflow
    plain = min(backoff * 2.0 ** min(attempts - 1, 20), LONGEST_DELAY)
    return min(plain * (1 + JITTER * jitter), LONGEST_DELAY)
