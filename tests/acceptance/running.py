"""Starts a project's web server and workers, asks them over HTTP, and ends them again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tests import servers
from tests.acceptance.project.gateway import Gateway

ROOT = Path(__file__).parent.parent.parent
#: How long anything that a test waits for may take, in seconds.
PATIENCE = 60
#: How often to look whether it has happened, in seconds.
INTERVAL = 0.2

Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found], patience: float = PATIENCE) -> Found:
    """Look until there is something to be seen, and return it."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} seconds in vain for {what}")
        time.sleep(INTERVAL)
    return found


class Process:
    """A process with its children, and what they write to standard output and error.

    :param options: more for :class:`subprocess.Popen`.
    """

    def __init__(
        self, arguments: list[str], environment: dict[str, str], log: Path, **options: Any
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                arguments,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **{"cwd": ROOT, "stdin": subprocess.DEVNULL, **options},
            )
        self.pid = self._popen.pid

    def output(self) -> str:
        """Return all that was written so far."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, patience: float = PATIENCE) -> None:
        """Wait until ``text`` was written."""
        what = f"{text!r} in {self.log.name}"
        wait_for(what, lambda: self.runs() and text in self.output(), patience)

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self._popen.poll() is not None

    def runs(self) -> bool:
        """Return ``True``, or fail if the process has ended."""
        assert not self.ended(), f"{self.log.name}: ended with status {self._popen.returncode}"
        return True

    def wait(self, patience: float | None = PATIENCE) -> int:
        """Wait until the process ends by itself; return its exit status."""
        return self._popen.wait(patience)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its children."""
        self._popen.send_signal(number)

    def send_signal_to_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and to its children."""
        os.killpg(self.pid, number)

    def stop(self) -> None:
        """End the process, kindly at first, and then whatever is left of its group."""
        self.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(10)
        self.kill()

    def kill(self) -> None:
        """End the process and its children without notice."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class Project:
    """A RapidSMS project with a database of its own, and the processes that run for it.

    :param folder: an empty folder.
    :param database: ``"sqlite"``, ``"postgres"`` or ``"mariadb"``.
    :param broker: a broker's URL.
    :param package: which project below ``tests.acceptance``.
    :param atomic_requests: whether every request is one transaction.
    :param environment: more of it for the processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database: str,
        broker: str,
        package: str = "project",
        atomic_requests: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.database = database
        self.broker = broker
        self.name = f"rapidsms_db_router_acceptance_{os.getpid()}"
        self.gateway = Gateway(folder)
        #: Where a file-system broker keeps its tasks.
        self.queue = folder / "queue"
        self.address = ""
        self.processes: list[Process] = []
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": f"tests.acceptance.{package}.settings",
            "DB_ROUTER_TEST_DATABASE": database,
            "DB_ROUTER_TEST_NAME": self.name,
            "DB_ROUTER_TEST_FOLDER": str(folder),
        }
        if atomic_requests:
            self._environment["DB_ROUTER_TEST_ATOMIC_REQUESTS"] = "yes"
        self._environment |= environment or {}

    def create(self) -> None:
        """Create the database with its tables, and the folder of a file-system broker."""
        self.queue.mkdir()
        if self.database == "postgres":
            with servers.connect_postgres() as connection:
                connection.execute(f"CREATE DATABASE {self.name}")
        elif self.database == "mariadb":
            with servers.connect_mariadb() as connection, connection.cursor() as cursor:
                cursor.execute(
                    f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                )
        self.migrate()

    def migrate(self) -> None:
        """Create the tables."""
        self.manage("migrate", "--verbosity=0")

    def manage(self, command: str, *options: str, **environment: str) -> None:
        """Have one of Django's commands do its work."""
        process = self._start(command, command, *options, **environment)
        assert process.wait() == 0, process.output()

    def drop(self) -> None:
        """End the processes; leave nothing in the database server and in the broker."""
        self.stop()
        if self.database == "postgres":
            with servers.connect_postgres() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        elif self.database == "mariadb":
            with servers.connect_mariadb() as connection, connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {self.name}")
        if self.broker == servers.BROKERS["redis"]:
            with servers.connect_broker("redis") as connection:
                client = connection.default_channel.client
                for key in client.scan_iter(f"{self.name}:*"):
                    client.delete(key)
        elif self.broker == servers.BROKERS["rabbitmq"]:
            with servers.connect_broker("rabbitmq") as connection:
                connection.default_channel.queue_delete(self.name)
                connection.default_channel.exchange_delete(self.name)

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.stop()
        self.processes.clear()

    def start_web(self, name: str = "web", **environment: str) -> Process:
        """Start a web server, and wait until it answers.

        :param name: tells its log from those of other web servers.
        :param environment: more of it for this web server alone.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        address = f"127.0.0.1:{port}"
        web = self._start(name, "runserver", "--noreload", address, **environment)
        wait_for("the web server", lambda: web.runs() and self._answers())
        return web

    def _answers(self) -> bool:
        try:
            self.messages()
        except OSError:
            return False
        return True

    def start_worker(self, *options: str, name: str = "worker", **environment: str) -> Process:
        """Start a worker, with two processes unless the options say otherwise.

        :param options: more for the command.
        :param name: tells its log from those of other workers.
        :param environment: more of it for this worker alone.
        """
        # its own name, since all workers at a broker hear of each other
        options = "-c", "2", f"--hostname={name}.{self.name}@localhost", *options
        return self._start(name, "celery", "worker", "--loglevel=info", *options, **environment)

    def _start(self, log: str, *arguments: str, **environment: str) -> Process:
        return self.start(log, "manage.py", *arguments, **environment)

    def start(self, log: str, *arguments: str, **environment: str) -> Process:
        """Start Python.

        :param log: the name of the log.
        :param arguments: of the interpreter.
        """
        process = Process(
            [sys.executable, *arguments],
            {**self._environment, "DB_ROUTER_TEST_BROKER": self.broker, **environment},
            self.folder / f"{log}.log",
        )
        self.processes.append(process)
        return process

    # As a gateway, or the project's staff, would

    def post_sms(self, identity: str, text: str) -> None:
        """Post a message that someone has sent in."""
        self._ask("/sms/", urllib.parse.urlencode({"identity": identity, "text": text}).encode())

    def broadcast(self, text: str, identities: list[str], backend: str = "gateway") -> int:
        """Have a message sent; return its id."""
        asked = {"text": text, "identities": identities, "backend": backend}
        body = json.dumps(asked).encode()
        return json.loads(self._ask("/broadcast/", body))["id"]

    def messages(self) -> list[dict[str, Any]]:
        """Return all stored messages in the order of their ids, with their transmissions."""
        return json.loads(self._ask("/messages/"))

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        try:
            with urllib.request.urlopen(self.address + path, body, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError as err:
            err.close()
            raise
