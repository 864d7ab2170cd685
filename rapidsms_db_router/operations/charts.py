"""Charts as SVG, drawn by the server: they need no script, and print as they are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.formats import number_format

WIDTH, HEIGHT = 720, 160
#: Room for the numbers beside the lines, and for the words below.
LEFT, BELOW = 60, 20


@dataclass(frozen=True)
class Bar:
    """One part of a column: a rectangle, and the class by which it gets its colour."""

    x: float
    y: float
    width: float
    height: float
    name: str
    title: str


@dataclass(frozen=True)
class Line:
    """A horizontal line, with what it stands for."""

    y: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A word below a column."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """What the template ``chart.svg`` draws."""

    bars: list[Bar]
    lines: list[Line]
    marks: list[Mark]
    width: int = WIDTH
    height: int = HEIGHT


def columns(
    labels: Sequence[str],
    series: dict[str, Sequence[int]],
    title: Callable[[int, str, int], str],
    most_marks: int = 8,
) -> Chart:
    """Draw stacked columns.

    :param labels: what stands below each column; some are left out where they are many.
    :param series: numbers for each column, by the name of the CSS class, from the bottom up.
    :param title: from a column's place, a name and its number: what a pointer is shown.
    """
    highest = max((sum(numbers) for numbers in zip(*series.values(), strict=True)), default=0)
    top = _round_up(highest)
    foot = HEIGHT - BELOW
    scale = (foot - 10) / top
    pitch = (WIDTH - LEFT) / max(len(labels), 1)
    bars, every = [], max(1, -(-len(labels) // most_marks))
    for place in range(len(labels)):
        y = float(foot)
        for name, numbers in series.items():
            if number := numbers[place]:
                height = number * scale
                y -= height
                x, said = LEFT + place * pitch, title(place, name, number)
                bars.append(Bar(x, y, pitch * 0.85, height, name, said))
    lines = [
        Line(foot - top * part * scale, number_format(int(top * part), force_grouping=True))
        for part in (0, 0.5, 1)
    ]
    marks = [Mark(LEFT + place * pitch, labels[place]) for place in range(0, len(labels), every)]
    return Chart(bars, lines, marks)


def _round_up(number: int) -> int:
    """Return the next number of the form 2, 4 or 10 times a power of ten."""
    step: Any = 1
    while True:
        for factor in (2, 4, 10):
            if number <= factor * step:
                return int(factor * step)
        step *= 10
