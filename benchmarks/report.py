"""What the figures say: a table of what is to be reached, all medians, JSON and a chart."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from tests import servers

THEIRS, OURS, FLOOR, OLD = "theirs", "ours", "floor", "ours, old rows"
#: What part of the processors' time others used just before a measurement: its noise.
BUSY = "others' share"
#: Which figure of each case the table with old rows and the chart show.
RATES = {
    "intake": "rate",
    "intake of a list": "rate",
    "drain": "rate",
    "drain, 50 ms a call": "rate",
    "receive": "rate",
    "ping to pong": "rate",
}
#: How much more memory a caller may take for a broadcast, and a worker for its drain, in MB.
MOST_GROWTH = 30
MOST_INTAKE_QUERIES, MOST_PING_QUERIES = 15, 14


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

    def add(self, case: str, size: int, who: str, figures: dict[str, float]) -> None:
        """Keep what one run has measured."""
        self.figures.setdefault(case, {}).setdefault(size, {}).setdefault(who, []).append(figures)

    def median(self, case: str, size: int, who: str, name: str) -> float | None:
        """Return the median of a figure; ``None`` if it was not measured."""
        runs = self.figures.get(case, {}).get(size, {}).get(who, [])
        return median(figures[name] for figures in runs) if runs else None

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

    # What is to be reached

    def rows(self) -> list[Row]:
        """Return the table, as far as its figures were measured."""
        found: list[Row | None] = [
            self._least("intake", 100_000, THEIRS, 40),
            self._least("intake", 100_000, FLOOR, 0.8),
            self._most("intake", 100_000, "queries", MOST_INTAKE_QUERIES),
            self._growth("intake", 1_000_000, 100_000, 0.8),
            self._most("intake", 1_000_000, "megabytes", MOST_GROWTH),
            self._least("intake of a list", 100_000, THEIRS, 12),
            self._least("drain", 40_000, THEIRS, 4),
            self._least("drain", 40_000, FLOOR, 0.6),
            self._least("receive", 1_000, THEIRS, 2),
            self._least("ping to pong", 1_000, THEIRS, 4),
            self._most("queries", 600, "ping to pong", MOST_PING_QUERIES),
            self._most("reply during a broadcast", 40_000, "longest wait", 1),
        ]
        for case, sizes in self.figures.items():
            found += [self._old(case, size) for size in sizes]
        return [row for row in found if row is not None]

    def _least(self, case: str, size: int, other: str, times: float) -> Row | None:
        rates = [self.median(case, size, who, "rate") for who in (other, OURS)]
        return at_least(f"{case}, {size:,}: per second", other, *rates, times)

    def _growth(self, case: str, size: int, smaller: int, times: float) -> Row | None:
        rates = [self.median(case, count, OURS, "rate") for count in (smaller, size)]
        return at_least(f"{case}, {size:,}: per second", f"ours, {smaller:,}", *rates, times)

    def _old(self, case: str, size: int) -> Row | None:
        if case not in RATES:
            name = "longest wait"
            if case != "reply during a broadcast":
                return None
            ours, old = (self.median(case, size, who, name) for who in (OURS, OLD))
            if ours is None or old is None:
                return None
            what = f"{case}, with old rows: {name}"
            return Row(what, OURS, ours, old, old / ours, "at most 1.1 x", old <= 1.1 * ours)
        rates = [self.median(case, size, who, RATES[case]) for who in (OURS, OLD)]
        return at_least(f"{case}, {size:,}, with old rows: per second", OURS, *rates, 0.9)

    def _most(self, case: str, size: int, name: str, limit: float) -> Row | None:
        theirs, ours = (self.median(case, size, who, name) for who in (THEIRS, OURS))
        if ours is None:
            return None
        ratio = ours / theirs if theirs else None
        what = f"{case}, {size:,}: {name}"
        return Row(what, THEIRS, theirs, ours, ratio, f"at most {limit:g}", ours <= limit)

    def problems(self) -> list[str]:
        """Return what is wrong in figures that do not depend on the machine."""
        limits = {
            ("intake", "megabytes"): MOST_GROWTH,
            ("drain", "worker growth"): MOST_GROWTH,
            ("queries", "broadcast"): MOST_INTAKE_QUERIES,
            ("queries", "ping to pong"): MOST_PING_QUERIES,
        }
        found = []
        for case, size, who, figures in self.medians():
            for name, value in figures.items() if who == OURS else ():
                limit = limits.get((case, name))
                if limit is not None and value > limit:
                    found.append(f"{case}, {size:,}: {name} {value:g}, more than {limit}")
        sizes = self.figures.get("queries", {})
        for name in ("broadcast", "batch", "batch, most"):
            counts = [self.median("queries", size, OURS, name) for size in sizes]
            if len(set(counts)) > 1:
                found.append(f"queries of {name!r} grow with the number of batches: {counts}")
        return found

    # Saying so

    def table(self) -> str:
        """Return the table as text, and below it every median."""
        lines = [("", "compared with", "its figure", "ours", "ratio", "target", "reached")]
        for row in self.rows():
            words = (row.other, row.ours, row.ratio)
            numbers = (number(value) for value in words)
            reached = "yes" if row.reached else "NO"
            other, ours, ratio = numbers
            lines.append((row.what, row.compared_with, other, ours, ratio, row.target, reached))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = "\n".join(
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        details = (
            f"{case}, {size:,}, {who}: "
            + ", ".join(f"{name} {number(value)}" for name, value in figures.items())
            for case, size, who, figures in self.medians()
        )
        return "\n".join((text, "", "Medians:", *details))

    def write(self, folder: Path, runs: int, old_rows: int) -> None:
        """Write ``benchmarks.json`` and ``benchmarks.svg``."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            **surroundings(),
            "runs": runs,
            "old_rows": old_rows,
            "others_share": self.busy(),
            "table": [row._asdict() for row in self.rows()],
            "figures": self.figures,
        }
        (folder / "benchmarks.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / "benchmarks.svg").write_text(self.chart())

    def chart(self) -> str:
        """Return bars of the rates, those of each case as parts of its largest."""
        colours = {THEIRS: "#b45309", OURS: "#0f766e", OLD: "#5eada5", FLOOR: "#9ca3af"}
        label, width, height = 230, 380, 16
        shapes, top = [], 30
        for number_, (who, colour) in enumerate(colours.items()):
            name = {THEIRS: "rapidsms.router.db", FLOOR: "floor (bare SQL)"}.get(who, who)
            left = 10 + 160 * number_
            shapes.append(f'<rect x="{left}" y="8" width="10" height="10" fill="{colour}"/>')
            shapes.append(f'<text x="{left + 15}" y="17">{escape(name)}</text>')
        for case, rate in RATES.items():
            for size, everyone in self.figures.get(case, {}).items():
                rates = {who: self.median(case, size, who, rate) or 0 for who in everyone}
                shapes.append(f'<text x="10" y="{top + 13}">{escape(f"{case}, {size:,}")}</text>')
                for who in (who for who in colours if who in rates):
                    length = max(1, width * rates[who] / max(rates.values()))
                    shapes.append(
                        f'<rect x="{label}" y="{top}" width="{length:.1f}"'
                        f' height="{height - 2}" fill="{colours[who]}"/>'
                    )
                    right = f'x="{label + length + 5:.1f}" y="{top + 12}"'
                    shapes.append(f"<text {right}>{rates[who]:,.0f}/s</text>")
                    top += height
                top += 8
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {top}"'
            f' font-family="sans-serif" font-size="12">\n'
            f'<rect width="700" height="{top}" fill="white"/>\n' + "\n".join(shapes) + "\n</svg>\n"
        )


def at_least(
    what: str, other: str, its: float | None, ours: float | None, times: float
) -> Row | None:
    """Return the line that says whether ours is so many times the other's figure."""
    if its is None or ours is None:
        return None
    return Row(what, other, its, ours, ours / its, f"at least {times:g} x", ours >= times * its)


def number(value: float | None) -> str:
    """Return a number with as many digits as tell something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def surroundings() -> dict[str, Any]:
    """Return when, on what machine, and with what versions."""
    with servers.connect_postgres() as server:
        postgres = server.execute("SHOW server_version").fetchone()[0]
    with servers.connect_broker("redis") as broker:
        redis = broker.default_channel.client.info("server")["redis_version"]
    packages = ("rapidsms-db-router", "RapidSMS", "Django", "celery", "kombu", "psycopg", "redis")
    processors = Path("/proc/cpuinfo").read_text().partition("model name")[2]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "model": processors.partition(":")[2].partition("\n")[0].strip(),
            "system": platform.platform(),
        },
        "versions": {
            "Python": platform.python_version(),
            "PostgreSQL server": postgres,
            "Redis server": redis,
            **{package: version(package) for package in packages},
        },
    }
