"""The figures of every run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean, median
from typing import NamedTuple

THEIRS, OURS, FLOOR, OLD = "theirs", "ours", "floor", "ours, old rows"
#: What part of the processors' time others used just before a measurement: its noise.
BUSY = "others' share"


class Row(NamedTuple):
    """One line of the table."""

    what: str
    compared_with: str
    other: float | None
    ours: float
    ratio: float | None
    target: str
    reached: bool


class Results:
    """The figures of every run, by case, size and who was measured."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[int, dict[str, list[dict[str, float]]]]] = {}
        #: What could not be measured, and why.
        self.failures: list[str] = []

    def add(self, case: str, size: int, who: str, figures: dict[str, float]) -> None:
        """Keep what one run has measured."""
        self.figures.setdefault(case, {}).setdefault(size, {}).setdefault(who, []).append(figures)

    def median(self, case: str, size: int, who: str, name: str) -> float | None:
        """Return the median of a figure; ``None`` if it was not measured."""
        runs = self.figures.get(case, {}).get(size, {}).get(who, [])
        found = [figures[name] for figures in runs if name in figures]
        return median(found) if found else None

    def medians(self) -> Iterator[tuple[str, int, str, dict[str, float]]]:
        """Yield case, size, who, and the medians of all figures."""
        for case, sizes in self.figures.items():
            for size, everyone in sizes.items():
                for who, runs in everyone.items():
                    yield (
                        case,
                        size,
                        who,
                        {name: median(figures[name] for figures in runs) for name in runs[0]},
                    )

    def busy(self) -> float:
        """Return what part of the processors' time others used, on the average."""
        return mean([figures[BUSY] for *_, figures in self.medians()] or [0])
