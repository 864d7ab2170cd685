"""``python -m benchmarks``: measure the router; what ``make bench`` runs.

Needs PostgreSQL and Redis. It ends with status 0 only if everything ran. With ``--quick`` the sizes
are tiny and no time counts: then the queries and the memory have to be as they may be, too.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import report, targets
from benchmarks.cases import CASES, Case
from benchmarks.results import BUSY, FLOOR, OLD, OURS, THEIRS, Results
from benchmarks.setups import MOST_WARM
from benchmarks.sides import Side

#: How long to look, before each measurement, at what others do with the machine, in seconds.
LOOK_SECONDS = 0.2


def main() -> int:
    """Measure, print, and return the exit status."""
    options = asked()
    cases = options.only or CASES
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
        most = max(MOST_WARM, *(max(each, default=0) for each in sizes.values()))
        for side in projects.values():
            stack.callback(side.drop)
            side.create(most)
        for name, case in cases.items():
            if why_not := case.needs():
                print(f"Not measured: {name}, since {why_not}", flush=True)
                continue
            compared = dict(projects)
            if options.quick and not case.quick_theirs:
                del compared[THEIRS]
            for size in sizes[name]:
                for run in range(min(runs, case.runs)):
                    measure(results, name, case, size, run, compared)
            # a long run may be interrupted
            report.write(results, options.output, runs, options.old_rows)
    print(f"\n{report.table(results)}")
    problems = results.failures + targets.problems(results)
    print(f"Before the measurements others kept {results.busy():.0%} of the processors busy.")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if results.failures or (options.quick and problems) else 0


def asked() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run, no times")
    groups = ", ".join(dict.fromkeys(case.group for case in CASES.values()))
    said = f"groups of cases, with commas between, or one case's name; can be repeated: {groups}"
    parser.add_argument("--only", type=chosen, action="append", help=said)
    parser.add_argument("--old-rows", type=int, default=0, help="measure ours with so many, too")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    options = parser.parse_args()
    if options.only:
        names = {name for each in options.only for name in each}
        options.only = {name: case for name, case in CASES.items() if name in names}
    return options


def chosen(words: str) -> set[str]:
    """Return the names of the cases that are asked for: those of groups, or one."""
    if words in CASES and "," in words:
        return {words}
    found = set()
    for word in words.split(","):
        names = {name for name, case in CASES.items() if word in (case.group, name)}
        if not names:
            raise argparse.ArgumentTypeError(f"{word!r} is neither a group nor a case")
        found |= names
    return found


def measure(
    results: Results, name: str, case: Case, size: int, run: int, projects: dict[str, Side]
) -> None:
    """Measure everyone once, the order alternated from run to run."""
    everyone = [*projects, FLOOR]
    for who in reversed(everyone) if run % 2 else everyone:
        side = projects.get(who, projects[OURS])
        function = case.floor if who == FLOOR else case.measure
        count = min(size, case.theirs_size) if who == THEIRS else size
        large = count > case.theirs_most or (run and count >= case.theirs_once)
        if function is None or (who == THEIRS and large) or (who == OLD and not case.old):
            continue
        side.reset()
        busy = others_share()
        start = time.monotonic()
        try:
            figures = {**function(side, count), BUSY: busy}
        except Exception as err:  # the other cases can be measured all the same
            results.failures.append(f"{name}, {size:,}, {who}: {err}")
            said = f"failed: {err}"
        else:
            results.add(name, size, who, figures)
            said = ", ".join(f"{what} {value:.4g}" for what, value in figures.items())
        of = "" if count == size else f" (with {count:,})"
        print(f"{time.monotonic() - start:6.1f} s  {name}, {size:,}, {who}{of}: {said}", flush=True)


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
