"""Histograms of durations, and percentiles of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: The upper bounds of the buckets, in seconds; the last bucket has none.
BOUNDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400)


def empty() -> list[int]:
    """Return a histogram of nothing."""
    return [0] * (len(BOUNDS) + 1)


def add(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Return the sum of histograms."""
    total = empty()
    for histogram in histograms:
        total = [one + other for one, other in zip(total, histogram, strict=True)]
    return total


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Return a duration that the given share of all durations does not exceed, in seconds.

    Within a bucket the durations are taken to be spread evenly. In the last bucket the answer is
    its lower bound.

    :param share: between 0 and 1: 0.95 for the 95th percentile.
    :returns: ``None`` if the histogram is empty.
    """
    wanted = sum(histogram) * share
    if not wanted:
        return None
    lower = 0.0
    for count, upper in zip(histogram, BOUNDS, strict=False):
        if count and wanted <= count:
            return lower + (upper - lower) * wanted / count
        wanted -= count
        lower = float(upper)
    return lower
