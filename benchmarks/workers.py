"""Workers of a project: started, warmed up, held and looked at."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.setups import Setup
from tests.acceptance.running import Process, wait_for

if TYPE_CHECKING:
    from benchmarks.sides import Side

#: Processes of a worker.
PROCESSES = 2
#: How long the warm-up may take, in seconds, and how much of a worker's log is shown else.
WARM_SECONDS, LAST = 120, 2000
#: For how long a worker's memory stays as it is before it counts as idle, in seconds.
STILL_SECONDS = 1


class Workers:
    """Running workers, which can be held.

    :param side: whose they are.
    :param setup: how many, and how they are warmed up.
    """

    def __init__(self, side: Side, setup: Setup) -> None:
        self.side = side
        self.setup = setup
        self.processes: list[Process] = []
        #: The memory of each process before there was anything to be done, in MB.
        self.idle: dict[int, float] = {}

    def start(self) -> None:
        """Start them, and have them do a little of everything."""
        celery = ["celery", "-A", "benchmarks.theirs"]
        if self.side.package == "ours":
            celery = ["django", "celery"]
        for number in range(self.setup.workers):
            name = f"{self.side.name}_{number}"
            options = [f"--concurrency={PROCESSES}", f"--hostname={name}@localhost"]
            prefix = self.setup.prefixes[number] if self.setup.prefixes else ()
            command = [*prefix, sys.executable, "-m", *celery, "worker", "--loglevel=WARNING"]
            log = self.side.folder / f"{name}.log"
            self.processes.append(Process([*command, *options], self.side.environment, log))
        for process in self.processes:
            wait_for("a worker's processes", lambda process=process: ready(process))
        if self.setup.idle:
            self._wait_until_idle()
            self.idle = self.memory()
        self.side.inside("warm_up", *self.setup.warm)
        try:
            self.side.wait_until_done(self.side.old_message, WARM_SECONDS)
        except AssertionError as err:
            said = "\n".join(process.output()[-LAST:] for process in self.processes)
            raise RuntimeError(f"the warm-up does not end: {err}\n{said}") from err
        self.side.calls.forget()

    def _wait_until_idle(self) -> None:
        before = 0.0
        while (memory := self.megabytes()) != before:
            before = memory
            time.sleep(STILL_SECONDS)

    def kill(self) -> None:
        """End them without notice."""
        for process in self.processes:
            process.kill()

    def hold(self) -> None:
        """Have them do nothing, so that what is to be done can be stored first."""
        for process in self.processes:
            os.killpg(process.pid, signal.SIGSTOP)

    def go_on(self) -> float:
        """Have them work; return the time."""
        moment = time.time()
        for process in self.processes:
            os.killpg(process.pid, signal.SIGCONT)
        return moment

    @contextmanager
    def held(self, *, analyze: bool = True) -> Iterator[None]:
        """Hold them while the body stores what is to be done.

        :param analyze: whether the database is told of the new rows, as it would be in time.
        """
        self.hold()
        yield
        for table in (self.side.message, self.side.transmission) if analyze else ():
            self.side.database.execute(f"ANALYZE {table}")

    def memory(self) -> dict[int, float]:
        """Return the memory of each main process and each child, in MB."""
        main = [process.pid for process in self.processes]
        return {pid: megabytes(pid) for first in main for pid in (first, *children(first))}

    def megabytes(self) -> float:
        """Return the memory of all together, in MB."""
        return sum(self.memory().values())

    def growth(self, before: Mapping[int, float]) -> float:
        """Return how much more memory the process has that has grown most, in MB."""
        return max(now - before.get(pid, 0) for pid, now in self.memory().items())


def children(pid: int) -> list[int]:
    """Return a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]


def ready(worker: Process) -> bool:
    """Return whether a worker has the processes that do its work."""
    if worker.ended():
        raise RuntimeError(f"a worker has ended:\n{worker.output()}")
    return len(children(worker.pid)) >= PROCESSES


def megabytes(pid: int) -> float:
    """Return the memory that a process has, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
