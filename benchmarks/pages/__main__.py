"""``python -m benchmarks.pages postgres 10000000``: the pages with so many transmissions.

Databases: ``postgres``, ``mariadb``, ``sqlite``. It fills a database of its own, asks each page 20
times as a user with all permissions, and prints how many queries and how long it takes. Then it
exports, sends 100,000 failed messages again while a worker runs, prunes 1,000,000 old
transmissions, and deletes a person and a backend in the admin. A page takes at most 12 queries and
300 ms, a search by number and ``/metrics`` 100 ms; an export makes at least 20,000 lines a second;
no transaction of the pruning takes 200 ms. The load of the machine stands beside each figure.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests import servers
from tests.acceptance.running import Process, Project


def show(process: Process) -> None:
    """Print what a process writes, once it has ended."""
    status = process.wait(None)
    print(process.output(), flush=True)
    if status:
        raise SystemExit(status)


def main(database: str, transmissions: int) -> None:
    """Fill, ask, act; leave nothing behind."""
    # so that the database is dropped and workers ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        project = Project(
            Path(folder),
            database=database,
            broker=servers.BROKERS["redis"],
            environment={"DJANGO_SETTINGS_MODULE": "benchmarks.pages.settings"},
        )
        try:
            project.create()
            show(project.start("filling", "-m", "benchmarks.pages.filling", str(transmissions)))
            show(project.start("asking", "-m", "benchmarks.pages.asking"))
            worker = project.start_worker()
            worker.wait_for_output("ready.")
            show(project.start("acting", "-m", "benchmarks.pages.acting", folder))
            show(project.start("pruning", "-m", "benchmarks.pages.pruning", str(transmissions)))
            show(project.start("deleting", "-m", "benchmarks.pages.deleting"))
        finally:
            project.drop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
