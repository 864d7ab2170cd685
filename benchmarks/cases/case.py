"""What a case is, and what several have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.sides import Side
from benchmarks.workers import PROCESSES

Figures = dict[str, float]
Measure = Callable[[Side, int], Figures]


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    :param group: by what ``--only`` finds it, with others.
    :param sizes: to be measured one after the other; ``quick`` are those of the quick version.
    :param measure: on a side, at a size.
    :param floor: the same without a router.
    :param theirs_most: the largest size at which theirs is measured; 0 is never.
    :param theirs_size: what theirs is measured at in place of larger sizes.
    :param theirs_once: from which size on it is measured once, whatever the number of runs.
    :param quick_theirs: whether theirs is measured in the quick version, too.
    :param runs: the most runs.
    :param old: whether ours is measured with old rows, too.
    :param needs: returns why it cannot be measured here, or an empty string.
    """

    group: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    measure: Measure
    floor: Measure | None = None
    theirs_most: int = 100_000
    theirs_size: int = 1_000_000
    theirs_once: int = 100_000
    quick_theirs: bool = True
    runs: int = 100
    old: bool = False
    needs: Callable[[], str] = lambda: ""


def sent_rate(side: Side, after: int, count: int) -> Figures:
    """Return how fast the transmissions of newer messages were sent, as the database has it."""
    seconds, at_first = side.query(
        f"SELECT extract(epoch FROM max(sent) - min(sent))::float,"
        f" count(*) FILTER (WHERE sent = (SELECT min(sent) FROM {side.transmission}"
        f"     WHERE message_id > %s))"
        f" FROM {side.transmission} WHERE message_id > %s AND status = 'S'",
        after,
        after,
    )[0]
    # the first were sent when the time began
    return {"seconds": seconds, "rate": (count - at_first) / seconds}


def floor_calls(side: Side, count: int, threads: int) -> Figures:
    """Make the calls from as many processes as a worker has."""
    return side.inside("floor_calls", count, PROCESSES, threads)
