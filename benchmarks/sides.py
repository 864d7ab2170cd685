"""The two projects that are compared: a database and a worker of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests import servers
from tests.acceptance.running import ROOT, Process, wait_for

#: Processes of a worker.
PROCESSES = 2
#: How long one measurement may take, in seconds.
PATIENCE = 900
#: How many batches, and how many pings, both processes of a worker are warmed up with.
WARM_BATCHES, WARM_PINGS = 10, 10
#: Recipients of those batches; no case needs fewer connections.
MOST_WARM = WARM_BATCHES * 200


class Side:
    """A project with a router, a database and a queue of its own.

    :param package: ``"ours"`` or ``"theirs"``.
    :param label: the label of the router's Django app.
    :param folder: for its logs.
    :param old_rows: how many transmissions its tables hold before anything is measured.
    """

    def __init__(self, package: str, label: str, folder: Path, old_rows: int = 0) -> None:
        self.package = package
        self.folder = folder
        self.old_rows = old_rows
        old = "_old" if old_rows else ""
        self.name = f"rapidsms_db_router_benchmark_{os.getpid()}_{package}{old}"
        self.message, self.transmission = f"{label}_message", f"{label}_transmission"
        self.old_message = 0
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": f"benchmarks.{package}.settings",
            "BENCHMARK_DATABASE": self.name,
            "PYTHONWARNINGS": "ignore",
        }
        self.database: Any = None

    def create(self, connections: int) -> None:
        """Create the database with its tables and its connections."""
        with servers.connect_postgres() as server:
            server.execute(f"CREATE DATABASE {self.name}")
        self._run("django", "migrate", "--verbosity=0")
        self.database = psycopg.connect(
            host=os.environ.get("PGHOST", "127.0.0.1"),
            port=os.environ.get("PGPORT", "5432"),
            user=os.environ.get("PGUSER", "postgres"),
            password=os.environ.get("PGPASSWORD", ""),
            dbname=self.name,
            autocommit=True,
        )
        self.inside("fill", connections, self.old_rows)
        self.old_message = self.newest()

    def drop(self) -> None:
        """Leave nothing in the database server and in the broker."""
        if self.database is not None:
            self.database.close()
        with servers.connect_postgres() as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self.empty_queue()

    def empty_queue(self) -> None:
        """Forget all tasks."""
        with servers.connect_broker("redis") as broker:
            client = broker.default_channel.client
            for key in client.scan_iter(f"{self.name}:*"):
                client.delete(key)

    def reset(self) -> None:
        """Leave nothing of an earlier measurement."""
        self.empty_queue()
        prefix = self.message.removesuffix("message")
        found = self.query(
            "SELECT tablename FROM pg_tables WHERE starts_with(tablename, %s)", prefix
        )
        tables = {name for (name,) in found}
        if self.old_message:
            tables -= {self.message, self.transmission}
        self.database.execute(f"TRUNCATE {', '.join(tables)}")
        if self.old_message:
            self.database.execute(
                f"DELETE FROM {self.transmission} WHERE message_id > {self.old_message}"
            )
            self.database.execute(f"DELETE FROM {self.message} WHERE id > {self.old_message}")
        self.database.execute(f"VACUUM ANALYZE {self.message}, {self.transmission}")
        # else the server does it in the middle of whatever is measured next
        self.database.execute("CHECKPOINT")

    # Asking

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows that a statement finds."""
        return self.database.execute(statement, values).fetchall()

    def newest(self) -> int:
        """Return the id of the message that was stored last; 0 if there is none."""
        return self.query(f"SELECT coalesce(max(id), 0) FROM {self.message}")[0][0]

    def wait_until_done(self, after: int, seconds: float = PATIENCE) -> None:
        """Wait until nothing is left to be done about messages that are newer."""
        pending = (
            f"SELECT EXISTS (SELECT FROM {self.transmission}"
            f" WHERE message_id > %s AND status IN ('Q', 'P'))"
        )
        wait_for(
            f"{self.package} to be done", lambda: not self.query(pending, after)[0][0], seconds
        )

    def inside(self, function: str, *arguments: Any) -> dict[str, float]:
        """Call a function of :mod:`benchmarks.inside` in a new process."""
        words = (word if isinstance(word, str) else json.dumps(word) for word in arguments)
        return json.loads(self._run("benchmarks.inside", function, *words))

    def _run(self, module: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.package}: {module} {' '.join(arguments)}:\n{done.stderr}")
        return done.stdout

    # The worker

    @contextmanager
    def worker(self, gateway_seconds: float = 0) -> Iterator[Worker]:
        """Start a worker of two processes, and have it warm."""
        celery = ["celery", "-A", "benchmarks.theirs"]
        if self.package == "ours":
            celery = ["django", "celery"]
        options = [f"--concurrency={PROCESSES}", f"--hostname={self.name}@localhost"]
        environment = {**self.environment, "BENCHMARK_GATEWAY_SECONDS": str(gateway_seconds)}
        process = Process(
            [sys.executable, "-m", *celery, "worker", "--loglevel=WARNING", *options],
            environment,
            self.folder / f"{self.name}.log",
        )
        worker = Worker(self, process)
        try:
            self.inside("warm_up", MOST_WARM, WARM_PINGS)
            self.wait_until_done(self.old_message)
            yield worker
        finally:
            process.kill()  # what it leaves behind is dropped


class Worker:
    """A running worker, which can be held."""

    def __init__(self, side: Side, process: Process) -> None:
        self.side = side
        self.process = process

    def hold(self) -> None:
        """Have it do nothing, so that what is to be done can be stored first."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> float:
        """Have it work; return the time."""
        moment = time.time()
        os.killpg(self.process.pid, signal.SIGCONT)
        return moment

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it while the body stores what is to be done; tell the database of the rows."""
        self.hold()
        yield
        for table in (self.side.message, self.side.transmission):
            self.side.database.execute(f"ANALYZE {table}")

    def megabytes(self) -> float:
        """Return the memory of its main process and its children, in MB."""
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return sum(megabytes(pid) for pid in (main, *children))


def megabytes(pid: int | str) -> float:
    """Return the memory that a process has, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
