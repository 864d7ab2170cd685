"""What is to be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.results import FLOOR, OLD, OURS, THEIRS, Results, Row

#: Which figure of each case the table with old rows and the chart show.
RATES = {
    "intake": "rate",
    "intake, one SMS a call": "rate",
    "intake of a list": "rate",
    "drain": "rate",
    "drain, 50 ms a call": "rate",
    "receive": "rate",
    "ping to pong": "rate",
    "replies, 300 ms a call": "rate",
    "broadcast": "rate",
    "broadcast, 200 at once": "rate",
    "broadcast over HTTP": "rate",
    "broadcast over HTTP, 200 at once": "rate",
    "broadcast over kept HTTP, 200 at once": "rate",
    "broadcast by HttpBackend, 200 at once": "rate",
    "broadcast to Kannel": "rate",
}
#: How much more memory a caller may take for a broadcast, and a worker for its drain, in MB.
MOST_GROWTH = 30
MOST_INTAKE_QUERIES, MOST_PING_QUERIES = 15, 20
#: How far a rate may be from what was said, and how much more a second may have.
RATE_TOLERANCE, BUSIEST = 0.03, 1.1
#: How much of a rate has to be left with old rows.
LEAST_OLD = 0.9


def rows(results: Results) -> list[Row]:
    """Return the table, as far as its figures were measured."""
    table = Table(results)
    found = [
        table.least("broadcast", 4_000, 900),
        table.least("broadcast, 200 at once", 12_000, 3_000),
        table.most("broadcast, 200 at once", 12_000, "growth since idle", MOST_GROWTH),
        table.least("broadcast over HTTP", 4_000, 850),
        table.least("broadcast over HTTP, 200 at once", 8_000, 1_300),
        table.least("broadcast over kept HTTP, 200 at once", 12_000, 2_500),
        table.least("broadcast by HttpBackend, 200 at once", 12_000, 2_500),
        table.least("broadcast to Kannel", 5_000, 2_500),
        *table.rates(),
        table.least("replies, 300 ms a call", 1_500, 140),
        table.most(
            "reply during a broadcast, one SMS a call", 40_000, "longest over the gateway", 0.5
        ),
        table.most("reply during a broadcast, one SMS a call", 40_000, "unanswered", 0),
        table.most("reply while another gateway hangs", 1_000, "longest over the gateway", 0.5),
        table.most("reply while another gateway hangs", 1_000, "unanswered", 0),
        table.most("reply while another gateway hangs", 1_000, "not sent", 0),
        table.most("reply while another gateway hangs", 1_000, "all sent after", 30),
        table.most("three messages each", 1_000, "people out of order", 0),
        table.times("drain", 40_000, THEIRS, 4),
        table.times("drain", 40_000, FLOOR, 0.6),
        table.least("drain, statistics of empty tables", 100_000, 0.9, "ratio"),
        table.least("drain, a transaction open", 50_000, 0.7, "ratio"),
        table.least("two workers on two machines", 12_000, 1.8, "times"),
        table.least("two workers on two machines", 12_000, 0.9, "two, of the limit"),
        table.times("intake", 100_000, THEIRS, 40),
        table.times("intake", 100_000, FLOOR, 0.8),
        table.most("intake", 100_000, "queries", MOST_INTAKE_QUERIES),
        table.times("intake, one SMS a call", 100_000, FLOOR, 0.8),
        table.growth("intake", 1_000_000, 100_000, 0.8),
        table.most("intake", 1_000_000, "megabytes", MOST_GROWTH),
        table.times("intake of a list", 100_000, THEIRS, 12),
        table.times("receive", 1_000, THEIRS, 2),
        table.times("receive", 1_000, FLOOR, 0.75),
        table.times("ping to pong", 1_000, THEIRS, 4),
        table.times("ping to pong", 1_000, FLOOR, 0.3),
        table.most("queries", 600, "ping to pong", MOST_PING_QUERIES),
        table.most("reply during a broadcast", 40_000, "longest wait", 1),
    ]
    for case, sizes in results.figures.items():
        found += [table.old(case, size) for size in sizes]
    return [row for row in found if row is not None]


class Table:
    """Lines about results; each is ``None`` if it was not measured."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def least(self, case: str, size: int, limit: float, name: str = "rate") -> Row | None:
        """Return whether a figure is at least so much."""
        return self._limited(case, size, name, f"at least {limit:,g}", lambda its: its >= limit)

    def most(self, case: str, size: int, name: str, limit: float) -> Row | None:
        """Return whether a figure is at most so much."""
        return self._limited(case, size, name, f"at most {limit:,g}", lambda its: its <= limit)

    def _limited(
        self, case: str, size: int, name: str, target: str, reached: Callable[[float], bool]
    ) -> Row | None:
        theirs, ours = (self.results.median(case, size, who, name) for who in (THEIRS, OURS))
        if ours is None:
            return None
        ratio = ours / theirs if theirs else None
        return Row(f"{case}, {size:,}: {name}", THEIRS, theirs, ours, ratio, target, reached(ours))

    def times(self, case: str, size: int, other: str, times: float) -> Row | None:
        """Return whether a rate is so many times another's."""
        its, ours = (self.results.median(case, size, who, "rate") for who in (other, OURS))
        return at_least(f"{case}, {size:,}: rate", other, its, ours, times)

    def growth(self, case: str, size: int, smaller: int, times: float) -> Row | None:
        """Return whether a rate is so many times that of a smaller size."""
        its, ours = (self.results.median(case, count, OURS, "rate") for count in (smaller, size))
        return at_least(f"{case}, {size:,}: rate", f"ours, {smaller:,}", its, ours, times)

    def rates(self) -> list[Row | None]:
        """Return whether the rates that were set were kept."""
        found: list[Row | None] = []
        for case, sizes in self.results.figures.items():
            if not case.startswith("rate "):
                continue
            said = float(case.removeprefix("rate ").partition("/")[0])
            least, most = said * (1 - RATE_TOLERANCE), said * (1 + RATE_TOLERANCE)
            for size in sizes:
                found += [
                    self._limited(
                        case,
                        size,
                        "rate",
                        f"{least:g} to {most:g}",
                        lambda its, least=least, most=most: least <= its <= most,
                    ),
                    self.most(case, size, "busiest second", BUSIEST * said),
                ]
        return found

    def old(self, case: str, size: int) -> Row | None:
        """Return whether old rows have cost too much."""
        name = RATES.get(case, "longest wait")
        ours, old = (self.results.median(case, size, who, name) for who in (OURS, OLD))
        if ours is None or old is None:
            return None
        if case in RATES:
            return at_least(f"{case}, {size:,}, with old rows: rate", OURS, ours, old, LEAST_OLD)
        what = f"{case}, with old rows: {name}"
        return Row(what, OURS, ours, old, old / ours, "at most 1.1 x", old <= 1.1 * ours)


def at_least(
    what: str, other: str, its: float | None, ours: float | None, times: float
) -> Row | None:
    """Return the line that says whether ours is so many times the other's figure."""
    if its is None or ours is None:
        return None
    return Row(what, other, its, ours, ours / its, f"at least {times:g} x", ours >= times * its)


def problems(results: Results) -> list[str]:
    """Return what is wrong in figures that do not depend on the machine."""
    limits = {
        ("intake", "megabytes"): MOST_GROWTH,
        ("intake, one SMS a call", "megabytes"): MOST_GROWTH,
        ("drain", "worker growth"): MOST_GROWTH,
        ("broadcast, 200 at once", "worker growth"): MOST_GROWTH,
        ("broadcast, 200 at once", "growth since idle"): MOST_GROWTH,
        ("three messages each", "people out of order"): 0,
        ("reply while another gateway hangs", "unanswered"): 0,
        ("reply while another gateway hangs", "not sent"): 0,
        ("queries", "broadcast"): MOST_INTAKE_QUERIES,
        ("queries", "ping to pong"): MOST_PING_QUERIES,
    }
    found = []
    for case, size, who, figures in results.medians():
        for name, value in figures.items() if who == OURS else ():
            limit = limits.get((case, name))
            if limit is not None and value > limit:
                found.append(f"{case}, {size:,}: {name} {value:g}, more than {limit}")
    sizes = results.figures.get("queries", {})
    for name in ("broadcast", "batch"):
        counts = [results.median("queries", size, OURS, name) or 0 for size in sorted(sizes)]
        if counts and max(counts) > counts[0]:
            found.append(f"queries of {name!r} grow with the number of batches: {counts}")
    return found
