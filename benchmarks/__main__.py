"""``python -m benchmarks``: measure the router; what ``make bench`` runs.

Needs PostgreSQL and Redis. With ``--quick`` the sizes are tiny and no time counts: it ends with
status 0 only if everything ran, and the queries and the memory are as they have to be.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import sides
from benchmarks.cases import CASES, Case
from benchmarks.report import BUSY, FLOOR, OLD, OURS, THEIRS, Results
from benchmarks.sides import Side

#: How long to look, before each measurement, at what others do with the machine, in seconds.
LOOK_SECONDS = 0.2


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run, no times")
    parser.add_argument("--only", choices=CASES, action="append", help="a case; can be repeated")
    parser.add_argument("--old-rows", type=int, default=0, help="measure ours with so many, too")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    options = parser.parse_args()
    cases = {name: CASES[name] for name in options.only or CASES}
    runs = 1 if options.quick else options.runs
    sizes = {name: case.quick if options.quick else case.sizes for name, case in cases.items()}
    # so that databases are dropped and workers ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = Results()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        projects = {
            THEIRS: Side("theirs", "db", folder),
            OURS: Side("ours", "rapidsms_db_router", folder),
        }
        if options.old_rows:
            projects[OLD] = Side("ours", "rapidsms_db_router", folder, options.old_rows)
        most = max(sides.MOST_WARM, *(max(each, default=0) for each in sizes.values()))
        for side in projects.values():
            stack.callback(side.drop)
            side.create(most)
        for name, case in cases.items():
            compared = dict(projects)
            if options.quick and not case.quick_theirs:
                del compared[THEIRS]
            for size in sizes[name]:
                for run in range(runs):
                    measure(results, name, case, size, run, compared)
            results.write(options.output, runs, options.old_rows)  # a long run may be interrupted
    print(f"\n{results.table()}")
    problems = results.problems()
    print(f"Before the measurements others kept {results.busy():.0%} of the processors busy.")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if options.quick and problems else 0


def measure(
    results: Results, name: str, case: Case, size: int, run: int, projects: dict[str, Side]
) -> None:
    """Measure everyone once, the order alternated from run to run."""
    everyone = [*projects, FLOOR]
    for who in reversed(everyone) if run % 2 else everyone:
        side = projects.get(who, projects[OURS])
        function = case.floor if who == FLOOR else case.measure
        large = size > case.theirs_most or (run and size >= case.theirs_once)
        if function is None or (who == THEIRS and large):
            continue
        side.reset()
        busy = others_share()
        start = time.monotonic()
        figures = {**function(side, size), BUSY: busy}
        results.add(name, size, who, figures)
        said = ", ".join(f"{what} {value:.4g}" for what, value in figures.items())
        print(f"{time.monotonic() - start:6.1f} s  {name}, {size:,}, {who}: {said}", flush=True)


def others_share() -> float:
    """Return what part of the processors' time others use, from a look at a moment of it."""

    def times() -> list[int]:
        line = Path("/proc/stat").read_text().partition("\n")[0]
        return [int(word) for word in line.split()[1:9]]

    before = times()
    time.sleep(LOOK_SECONDS)
    passed = [after - at_first for at_first, after in zip(before, times(), strict=True)]
    waiting = passed[3] + passed[4]  # idle, or idle until a disk answers
    return 1 - waiting / max(1, sum(passed))


if __name__ == "__main__":
    sys.exit(main())
