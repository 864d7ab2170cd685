"""``python -m tests.storms.soak --minutes 30``: everything at once, for a long time.

Messages come in all the time, broadcasts go out through two gateways, and every now and then
something happens to a worker, the broker, the database or a gateway. One worker nothing happens to:
its memory is watched. Ends with status 0 only if nothing was lost, no more was sent twice than
workers that were killed had in flight, every message ended as it should have, and that worker's
memory no longer grew.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.acceptance.running import Process
from tests.storms.running import AT_A_KILL, STACKS, Figures, Storm

#: How many messages come in a second.
PINGS_A_SECOND = 2
#: How often a broadcast goes out, in seconds, to how many, and through which gateways in turn.
BETWEEN_BROADCASTS = 20
RECIPIENTS = 100, 1000
GATEWAYS = "gateway", "other"
#: How long after one fault the next may come, in seconds.
BETWEEN_FAULTS = (10, 40)
#: How often memory is looked at, in seconds.
BETWEEN_SAMPLES = 10
#: How much larger the memory may be in the last third of the time than in the second.
GROWTH = 1.05

#: How much of the log of a worker that ended by itself to show, in lines.
LAST_WORDS = 200

KILLED = "workers killed"
#: For how long claims count, in seconds: longer than any fault lasts, for what is lost then is
#: sent twice.
VISIBILITY_TIMEOUT = "20"


def main() -> int:
    """Run the soak, print its figures, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--stack", choices=STACKS, default=next(iter(STACKS)))
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"{options.stack}, {options.minutes:g} minutes, --seed={options.seed}", flush=True)
    os.environ["DB_ROUTER_TEST_VISIBILITY_TIMEOUT"] = VISIBILITY_TIMEOUT
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        storm = Storm(Path(folder), options.stack)
        storm.random.seed(options.seed)
        try:
            storm.create()
            storm.start_web()
            return Soak(storm, options.minutes * 60).run()
        finally:
            storm.drop()


class Soak:
    """One soak.

    :param storm: with its servers and its web server running.
    """

    def __init__(self, storm: Storm, seconds: float) -> None:
        self.storm = storm
        self.seconds = seconds
        self.start = time.monotonic()
        self.faults: Counter[str] = Counter()
        self.refused = 0
        #: What the watched worker said last, if it ended by itself.
        self.last_words: list[str] = []
        #: When, and the memory in MB of the watched worker's main process and of its children.
        self.samples: list[tuple[float, list[float]]] = []

    def run(self) -> int:
        """Let everything happen; return the exit status."""
        self.storm.work()
        watched = self.storm.workers.pop()  # so that nothing happens to it
        self.storm.work()
        self.start = time.monotonic()
        busy = [
            threading.Thread(target=self.come_in),
            threading.Thread(target=self.watch, args=(watched,)),
        ]
        for thread in busy:
            thread.start()
        while self.pause(self.storm.random.uniform(*BETWEEN_FAULTS)):
            self.fault()
        for thread in busy:
            thread.join()
        return self.report(self.storm.end())

    def passed(self) -> float:
        """Return how many seconds have passed."""
        return time.monotonic() - self.start

    def pause(self, seconds: float) -> bool:
        """Wait; return whether there is time left."""
        time.sleep(max(0, min(seconds, self.seconds - self.passed())))
        return self.passed() < self.seconds

    # What happens

    def come_in(self) -> None:
        """Have messages come in and broadcasts go out."""
        gateways = itertools.cycle(GATEWAYS)
        for number in itertools.count():
            if not self.pause(1 / PINGS_A_SECOND):
                return
            self.ask(lambda number=number: self.storm.ping(number))
            if number % (BETWEEN_BROADCASTS * PINGS_A_SECOND) == 0:
                count, gateway = random.randrange(*RECIPIENTS), next(gateways)
                self.ask(lambda: self.storm.send(count, backend=gateway))  # noqa: B023 - at once

    def ask(self, call: Callable[[], None]) -> None:
        """Ask the project for something, which it refuses if its database is away."""
        try:
            call()
        except OSError:
            self.refused += 1

    def fault(self) -> None:
        """Have one thing happen, by chance."""
        faults = {
            KILLED: self.kill_workers,
            "workers replaced": self.replace_workers,
            "broker emptied": self.storm.broker_server.empty,
            "broker away": self.broker_away,
            "broker's connections cut": self.storm.broker_server.cut,
            "database restarted": self.storm.database_server.restart,
            "database's connections cut": self.storm.database_server.cut,
            "database read-only": self.database_read_only,
            "gateway hangs": self.gateway_hangs,
            "gateways slow": self.gateways_slow,
        }
        name = self.storm.random.choice(sorted(faults))
        print(f"{self.passed():6.0f} s  {name}", flush=True)
        self.faults[name] += 1
        faults[name]()

    def kill_workers(self) -> None:
        self.storm.kill_workers()
        self.storm.work(ready=False)

    def replace_workers(self) -> None:
        for worker in self.storm.workers:
            worker.send_signal(signal.SIGTERM)
        self.storm.workers.clear()
        self.storm.work(ready=False)

    def broker_away(self) -> None:
        with self.storm.broker_server.down():
            self.pause(self.storm.random.uniform(0, 10))

    def database_read_only(self) -> None:
        with self.storm.database_server.read_only():
            self.pause(self.storm.random.uniform(0, 3))

    def gateway_hangs(self) -> None:
        with self.storm.gateway_hangs():
            self.pause(self.storm.random.uniform(5, 20))

    def gateways_slow(self) -> None:
        with self.storm.gateway_is_slow():
            self.pause(self.storm.random.uniform(5, 20))

    # What came of it

    def watch(self, worker: Process) -> None:
        """Write down the memory of a worker, as long as it runs."""
        while self.pause(BETWEEN_SAMPLES):
            if worker.ended():
                self.last_words = worker.output().splitlines()[-LAST_WORDS:]
                return
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
            self.samples.append((self.passed(), [megabytes(worker.pid), *map(megabytes, children)]))

    def report(self, figures: Figures) -> int:
        """Print the figures; return the exit status."""
        accepted, counts = self.storm.progress(), self.storm.counts()
        print("memory of the main process and of its children, MB:")
        for moment, sizes in self.samples[:: max(1, len(self.samples) // 20)]:
            print(f"{moment:6.0f} s  {'  '.join(f'{size:.1f}' for size in sizes)}")
        print(f"faults: {', '.join(f'{name} {count}' for name, count in self.faults.items())}")
        print(f"accepted by the gateway: {accepted}; calls refused: {self.refused}")
        print(f"stored: {counts}")
        print(figures)
        # each gateway has as much in flight as one
        most = self.faults[KILLED] * len(GATEWAYS) * AT_A_KILL
        print(f"sent twice: {figures.extra} (at most {most})")
        well = not figures.lost and not figures.stuck and figures.extra <= most
        if self.last_words:
            print("the watched worker ended by itself:", *self.last_words, sep="\n")
            return 1
        growth = self.growth()
        print(f"memory grew by {growth - 1:.1%}")
        return 0 if well and growth <= GROWTH else 1

    def growth(self) -> float:
        """Return how much larger the worker is in the last third of the time than in the second."""
        third = len(self.samples) // 3
        sizes = [sum(sizes) for _, sizes in self.samples]
        return median(sizes[2 * third :]) / median(sizes[third : 2 * third])


def megabytes(pid: int | str) -> float:
    """Return how much memory a process has: none if it has just ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    size = status.partition("VmRSS:")[2].split()
    return int(size[0]) / 1024 if size else 0.0


if __name__ == "__main__":
    sys.exit(main())
