"""``python -m benchmarks.country``: a broadcast to 1,000,000, while a worker is killed each minute.

A gateway takes 1,000 SMS a second and posts delivery reports to a web server. Eight workers of one
process each send, and PostgreSQL and Redis have the settings that they come with. The tables hold
ten million old transmissions. Every minute a worker is killed with its process, and started again
two seconds later, as systemd would. All of it runs on this machine.

It prints a row for each minute, and then what came of it. Exits with 1 if an SMS was lost, or if
more were sent twice than killed workers could have in flight.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.calls import Calls, busiest_second
from benchmarks.pages.table import Table, percentile
from benchmarks.workers import children, megabytes
from rapidsms_db_router import conf
from tests import servers
from tests.acceptance.running import Process, Project, wait_for

#: As systemd's ``RestartSec`` in the how-to.
RESTART_SECONDS = 2
#: What one more look takes place after, and what has to end is waited for, in seconds.
INTERVAL, PATIENCE = 1, 3600
MINUTE = 60
MESSAGES, ROWS, BATCHES, SLOTS, EARLY = (
    f"rapidsms_db_router_{name}"
    for name in ("message", "transmission", "batch", "slotlease", "earlyreport")
)
TEXT = "broadcast"


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.country", description=__doc__)
    add = parser.add_argument
    add("--recipients", type=int, default=1_000_000, help="at most 1,000,000")
    add("--old-rows", type=int, default=10_000_000, help="old transmissions: n times 250,000")
    add("--workers", type=int, default=8, help="workers of one process each")
    add("--rate", type=int, default=1000, help="SMS that the gateway takes in a second")
    add("--kill-every", type=float, default=60, metavar="SECONDS", help="0: never")
    add("--report-every", type=int, default=5, metavar="N", help="a report for one SMS in N")
    add("--reports-a-post", type=int, default=20, help="delivery reports of one post")
    seconds = conf.DEFAULTS["DB_ROUTER_VISIBILITY_TIMEOUT"]
    add("--visibility-timeout", type=float, default=seconds, metavar="SECONDS")
    return parser.parse_args()


class Country:
    """One run.

    :param folder: for logs, and for what the gateway writes down.
    """

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self.folder, self.given, self.table = folder, given, Table()
        self.project = Project(
            folder,
            database="postgres",
            broker=servers.BROKERS["redis"],
            environment={
                "DJANGO_SETTINGS_MODULE": "benchmarks.country.settings",
                "COUNTRY_RATE": str(given.rate),
                "COUNTRY_VISIBILITY_TIMEOUT": str(given.visibility_timeout),
            },
        )
        self.calls, self.posts = (Calls(folder / name) for name in ("calls", "posts"))
        self.workers: list[Process] = []
        self.url = ""
        self.started = self.kills = self.at_kills = 0
        #: The most memory of one process, and of all workers together, in MB.
        self.largest = self.together = 0.0

    # What runs

    def start(self) -> None:
        """Start all but the workers, and fill the tables."""
        self.project.create()
        self.database = servers.connect_postgres(self.project.name)
        # asks for all messages, of which there are none yet
        self.project.start_web()
        report = f"{self.project.address}/report/"
        paths = str(self.calls.path), str(self.posts.path)
        numbers = str(self.given.report_every), str(self.given.reports_a_post)
        module = "-m", "benchmarks.country.gateway"
        gateway = self.project.start("gateway", *module, *paths, report, *numbers)
        port = wait_for("the gateway", lambda: gateway.runs() and gateway.output())
        self.url = f"http://127.0.0.1:{int(port)}/"
        begun = time.monotonic()
        self.run("benchmarks.pages.filling", str(self.given.old_rows), "settled")
        self.table.row("filling the tables", f"{time.monotonic() - begun:.0f} s")
        self.workers += [self.worker() for _ in range(self.given.workers)]
        for worker in self.workers:
            worker.wait_for_output(" ready.")

    def run(self, module: str, *arguments: str) -> str:
        """Run a module to its end; return what it said."""
        process = self.project.start(module, "-m", module, *arguments)
        if process.wait(PATIENCE):
            raise RuntimeError(process.output())
        return process.output()

    def worker(self) -> Process:
        """Start a worker of one process."""
        self.started += 1
        name = f"worker{self.started}"
        return self.project.start_worker("-c", "1", name=name, COUNTRY_GATEWAY=self.url)

    def kill(self) -> None:
        """Kill a worker with its process, and start it again."""
        # what it has in flight, and what a step has begun that was not written down
        self.at_kills += 2 * self.ask(f"SELECT coalesce(max(slots), 0) FROM {SLOTS}")[0][0]
        worker = self.workers.pop(random.randrange(len(self.workers)))
        worker.kill()
        self.project.processes.remove(worker)
        self.kills += 1
        time.sleep(RESTART_SECONDS)
        self.workers.append(self.worker())

    def ask(self, statement: str) -> list[Any]:
        """Return the rows that a statement finds."""
        return self.database.execute(statement).fetchall()

    # What happens

    def send(self) -> None:
        """Store the broadcast, and watch until nobody has anything more of it to do."""
        said = self.run("benchmarks.inside", "intake", str(self.given.recipients), "queryset")
        stored = json.loads(said.splitlines()[-1])
        self.table.row("storing the broadcast", f"{stored['seconds']:.1f} s")
        begun = minute = killed = time.monotonic()
        sent = 0
        while (batches := self.batches())[0]:
            time.sleep(INTERVAL)
            moment = time.monotonic()
            if self.given.kill_every and moment >= killed + self.given.kill_every and batches[1]:
                killed = moment
                self.kill()
            if moment >= minute + MINUTE:
                minute, before, sent = minute + MINUTE, sent, self.calls.number()
                self.look(f"minute {(minute - begun) / MINUTE:.0f}", (sent - before) / MINUTE)
        self.table.row("from the first SMS until no batch is left", f"{self.seconds():.0f} s")
        wait_for("all reports", lambda: self.left() == 0, PATIENCE)

    def batches(self) -> tuple[int, int]:
        """Return how many batches there are, and how many of them nobody has claimed."""
        return self.ask(
            f"SELECT count(*), count(*) FILTER (WHERE claim_token IS NULL) FROM {BATCHES}"
        )[0]

    def left(self) -> int:
        """Return how many reports the gateway has yet to post."""
        with urllib.request.urlopen(f"{self.url}left", timeout=10) as answer:
            return int(answer.read())

    def seconds(self) -> float:
        """Return how long it is since the first SMS, in seconds."""
        with self.calls.path.open() as file:
            return time.time() - float(file.readline().split("\t")[0])

    def look(self, name: str, rate: float) -> None:
        """Print how many were sent, how many reports wait, and memory."""
        sizes = []
        for worker in self.workers:
            with suppress(OSError, IndexError):  # a process has just ended
                sizes += [megabytes(pid) for pid in (worker.pid, *children(worker.pid))]
        self.largest = max(self.largest, *sizes)
        self.together = max(self.together, sum(sizes))
        memory = f"{sum(sizes):,.0f} MB"
        self.table.row(name, f"{rate:,.0f} SMS/s", f"{self.left():,} reports wait", memory)

    # What came of it

    def end(self) -> bool:
        """Print what came of it; return whether nothing was lost, and no more was sent twice."""
        calls = [call for call in self.calls.read() if call.text == TEXT]
        row, wanted = self.table.row, self.given.recipients
        called = len({call.identity for call in calls})
        statuses = dict(
            self.ask(
                f"SELECT r.status, count(*) FROM {ROWS} r JOIN {MESSAGES} m ON m.id = message_id"
                f" WHERE text = '{TEXT}' GROUP BY 1"
            )
        )
        delivered = statuses.get("D", 0)
        lost = max(wanted - called, wanted - delivered - statuses.get("S", 0))
        twice = len(calls) - called
        moments = [call.end for call in calls]
        times = [moment - moments[0] for moment in moments]
        row("99 % sent after", f"{percentile(times, 0.99):.0f} s")
        row("all sent after", f"{times[-1]:.0f} s")
        row("rate, until 99 %", f"{0.99 * len(times) / percentile(times, 0.99):.0f} SMS/s")
        row("rate, the busiest second", f"{busiest_second(moments):,} SMS/s")
        row("workers killed", f"{self.kills}")
        row("lost", f"{lost:,}")
        row("sent twice", f"{twice:,}", f"of {self.at_kills:,} allowed")
        posts = self.posts.read()
        lags = [post.end - post.start for post in posts for _ in range(post.count)]
        last = f"{posts[-1].end - calls[0].end:.0f} s"
        row("reports posted", f"{len(lags):,}", f"the last after {last}")
        row("reports applied", f"{delivered:,}")
        row(
            "reports of ids that are not stored",
            f"{self.ask(f'SELECT count(*) FROM {EARLY}')[0][0]:,}",
        )
        row(
            "reports late by",
            *(f"{share:.0%}: {percentile(lags, share):.1f} s" for share in (0.5, 0.99, 1)),
        )
        row("memory, the largest process", f"{self.largest:.0f} MB")
        row("memory, all workers", f"{self.together:,.0f} MB")
        size = self.ask("SELECT pg_database_size(current_database())")[0][0]
        row("database", f"{size / 2**30:.1f} GB")
        return lost == 0 and twice <= self.at_kills


def main() -> int:
    """Run it, and return the exit status; logs stay if something was wrong."""
    # so that the database is dropped and workers ended
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="country-"))
    country, right = Country(folder, options()), False
    try:
        country.start()
        country.send()
        right = country.end()
    finally:
        country.project.drop()
        if right:
            shutil.rmtree(folder)
        else:
            print(f"logs are in {folder}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
