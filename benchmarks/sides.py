"""The two projects that are compared: a database and a queue of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks.calls import Calls
from benchmarks.setups import Setup
from benchmarks.workers import Workers
from tests.acceptance.running import ROOT, wait_for

#: How long a process may take, and then the workers for what it has stored, in seconds.
PROCESS_PATIENCE, PATIENCE = 900, 240


class Side:
    """A project with a router, a database and a queue of its own.

    :param package: ``"ours"`` or ``"theirs"``.
    :param label: the label of the router's Django app.
    :param folder: for its logs.
    :param old_rows: how many transmissions its tables hold before anything is measured.
    :param servers: where its servers are, if they are its own: PGHOST, PGPORT, REDIS_URL.
    """

    def __init__(
        self,
        package: str,
        label: str,
        folder: Path,
        old_rows: int = 0,
        servers: Mapping[str, str] | None = None,
    ) -> None:
        self.package = package
        self.label = label
        self.folder = folder
        self.old_rows = old_rows
        more = ("_old" if old_rows else "") + ("_apart" if servers else "")
        self.name = f"rapidsms_db_router_benchmark_{os.getpid()}_{package}{more}"
        self.message, self.transmission = f"{label}_message", f"{label}_transmission"
        self.old_message = 0
        self.calls = Calls(folder / f"{self.name}.calls")
        self.environment = {
            **os.environ,
            **(servers or {}),
            "DJANGO_SETTINGS_MODULE": f"benchmarks.{package}.settings",
            "BENCHMARK_DATABASE": self.name,
            "PYTHONWARNINGS": "ignore",
        }
        self.database: Any = None

    def connect(self, database: str) -> Any:
        """Return a connection to one of the server's databases."""
        return psycopg.connect(
            host=self.environment.get("PGHOST", "127.0.0.1"),
            port=self.environment.get("PGPORT", "5432"),
            user=self.environment.get("PGUSER", "postgres"),
            password=self.environment.get("PGPASSWORD", ""),
            dbname=database,
            autocommit=True,
        )

    def create(self, connections: int) -> None:
        """Create the database with its tables and its connections."""
        with self.connect("postgres") as server:
            server.execute(f"CREATE DATABASE {self.name}")
        self._run("django", "migrate", "--verbosity=0")
        self.database = self.connect(self.name)
        self.inside("fill", connections, self.old_rows)
        self.old_message = self.newest()

    def drop(self) -> None:
        """Leave nothing in the database server and in the broker."""
        if self.database is not None:
            self.database.close()
        with self.connect("postgres") as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self.empty_queue()

    def empty_queue(self) -> None:
        """Forget all tasks, and whatever else workers have told each other."""
        url = self.environment.get("REDIS_URL", "redis://127.0.0.1:6379/0")
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"{self.name}:*"):
                client.delete(key)

    def tables(self) -> set[str]:
        """Return the names of the router's tables."""
        prefix = self.message.removesuffix("message")
        found = self.query(
            "SELECT tablename FROM pg_tables WHERE starts_with(tablename, %s)", prefix
        )
        return {name for (name,) in found}

    def reset(self) -> None:
        """Leave nothing of an earlier measurement."""
        self.empty_queue()
        tables = self.tables()
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
        self.calls.path.unlink(missing_ok=True)
        self.calls.forget()

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

    def inside(self, function: str, *arguments: Any) -> Any:
        """Call a function of :mod:`benchmarks.inside` in a new process; return what it does."""
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
            timeout=PROCESS_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.package}: {module} {' '.join(arguments)}:\n{done.stderr}")
        return done.stdout

    # Its settings and its workers

    @contextmanager
    def told(self, setup: Setup) -> Iterator[None]:
        """Have its processes that start in the body know of the backends."""
        before = self.environment
        self.environment = {**before, **setup.environment(self.package, self.calls.path)}
        try:
            yield
        finally:
            self.environment = before

    @contextmanager
    def running(self, setup: Setup) -> Iterator[Workers]:
        """Start workers of two processes each, and have them warm."""
        with self.told(setup):
            workers = Workers(self, setup)
            try:
                workers.start()
                yield workers
            finally:
                workers.kill()  # what they leave behind is dropped
