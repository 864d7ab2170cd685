"""``python -m tests``: every test on every server that answers; what ``make test`` runs.

Arguments are handed on to pytest. Ends with status 0 only if all tests passed and, under
continuous integration, every server answered.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import servers

ROOT = Path(__file__).parent.parent
ON_EACH_DATABASE = (
    "tests/unit",
    "tests/integration",
    "tests/fuzz",
    "tests/concurrency",
    "tests/faults",
)
#: They start workers and web servers of their own; the workers on every database in turn.
ONCE = ("tests/docs", "tests/acceptance", "tests/browser")
#: Most tests wait for a clock, a process or a server: two of them find room on a processor.
TOGETHER = ("-n", str(2 * (os.cpu_count() or 1)), "--dist", "worksteal")
#: ``make test-long`` runs the others.
SHORT = ("-m", "not long")


def main(arguments: list[str]) -> int:
    """Run all tests, say how it went, and return the exit status."""
    problems = {name: servers.problem(name) for name in servers.CONNECT}
    for name, why in problems.items():
        print(f"{name}: {f'not used, {why}' if why else 'answers'}")
    databases = [name for name in ("sqlite", *servers.DATABASES) if not problems.get(name)]
    runs = {}
    for database in databases:
        # the longest tests first
        folders = (*ONCE, *ON_EACH_DATABASE) if database == "sqlite" else ON_EACH_DATABASE
        runs[database] = run(database, folders, arguments)

    print("\n== Summary")
    for name, passed in runs.items():
        print(f"{name}: {'passed' if passed else 'FAILED'}")
    missing = [name for name, why in problems.items() if why]
    if missing:
        print(f"not tested for want of a server: {', '.join(missing)}")
    return 0 if all(runs.values()) and not (missing and servers.ALL_REQUIRED) else 1


def run(database: str, folders: tuple[str, ...], arguments: list[str]) -> bool:
    """Run pytest on some folders with one database, and return whether all passed."""
    print(f"\n== {', '.join(folders)} on {database}", flush=True)
    # a name of its own, so that two runs on one machine do not drop each other's database
    name = os.environ.get("DB_ROUTER_TEST_NAME", f"rapidsms_db_router_{os.getpid()}")
    status = subprocess.run(
        [sys.executable, "-m", "pytest", *TOGETHER, *SHORT, *folders, *arguments],
        cwd=ROOT,
        env={**os.environ, "DB_ROUTER_TEST_DATABASE": database, "DB_ROUTER_TEST_NAME": name},
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode
    # with arguments such as -k a run may have nothing to do
    return status == 0 or (status == NO_TESTS and bool(arguments))


#: pytest's exit status if there was no test to run.
NO_TESTS = 5

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
