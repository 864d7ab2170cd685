"""A project in a storm: its servers and workers, what it was asked for, and what came of it."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rapidsms_db_router import conf
from tests.acceptance.project.gateway import REFUSED_ONCE, Record
from tests.acceptance.running import Process, Project
from tests.storms.project.gateway import HANGS, POISON_LOG, SLOW
from tests.storms.servers import Broker, Database, MariaDB, PostgreSQL, RabbitMQ, Redis

#: The recipients of one call, and the calls of all workers that are in flight at once: as in the
#: project's settings, and by default.
CALL_SIZE = 2
CALLS = conf.CONCURRENCY
#: SMS that a broadcast has in flight at once, at the most.
IN_FLIGHT = CALLS * CALL_SIZE
#: SMS that may be sent twice when a worker is killed: those in flight, and those of one step, which
#: begins no more calls than may be in flight.
AT_A_KILL = 2 * IN_FLIGHT
#: Dates as of a project that sets none of them, for workers and for a web server.
DEFAULT_DATES = {
    f"DB_ROUTER_TEST_{name}": str(conf.DEFAULTS[f"DB_ROUTER_{name}"])
    for name in ("VISIBILITY_TIMEOUT", "RECOVERY_INTERVAL")
}
#: How soon after the last fault everything has to be as if there had been none, in seconds.
SOON = 30
#: How long to wait before what is not whole counts as stuck, in seconds.
LATE = 120
#: How often to look, in seconds.
INTERVAL = 0.1
#: How often to ask the project how far it is: each time costs it some work.
POLL_INTERVAL = 0.5

STACKS: dict[str, tuple[type[Database], type[Broker]]] = {
    "postgresql-redis": (PostgreSQL, Redis),
    "mariadb-rabbitmq": (MariaDB, RabbitMQ),
}

#: Whether the storms have the size of the table in the documentation.
FULL = os.environ.get("DB_ROUTER_STORMS") == "full"


def size(short: int, full: int) -> int:
    """Return one of two numbers."""
    return full if FULL else short


@dataclass
class Figures:
    """What came of a storm."""

    #: SMS that the gateway should have been given, and was not.
    lost: int
    #: SMS that the gateway was given once more than it should have been.
    extra: int
    #: Messages and transmissions that ended in another status than they should have, or not.
    stuck: int
    #: From the last fault until nothing was left to be done.
    seconds: float
    #: The longest that it took the project to answer whoever asked it for something.
    call: float

    def __str__(self) -> str:
        return " ".join(f"{name}={value:.3g}" for name, value in asdict(self).items())


class Storm(Project):
    """A project with servers of its own.

    :param folder: an empty folder.
    :param stack: one of :data:`STACKS`.
    """

    def __init__(self, folder: Path, stack: str) -> None:
        database, broker = STACKS[stack]
        self.stack = stack
        self.database_server, self.broker_server = database(), broker()
        settings = self.database_server.settings()
        super().__init__(
            folder,
            database=settings["DB_ROUTER_TEST_DATABASE"],
            broker=self.broker_server.url,
            environment={"DJANGO_SETTINGS_MODULE": "tests.storms.project.settings", **settings},
        )
        self.random = random.Random()
        self.workers: list[Process] = []
        self._workers_started = 0
        self._numbers = itertools.count(1)
        self._expected: Counter[tuple[str, str]] = Counter()
        #: What was asked for in vain; it may have been stored all the same.
        self._perhaps: Counter[tuple[str, str]] = Counter()
        #: How long each call took, in seconds.
        self._calls: list[float] = []
        #: How far the gateway's log was read, in bytes, and how many lines that were.
        self._read = self._accepted = 0

    def create(self) -> None:
        """Start the servers, and create the database with its tables."""
        for server in (self.database_server, self.broker_server):
            server.install()
            server.start()
        self.database_server.create_database()
        self.migrate()

    def drop(self) -> None:
        """End processes and servers."""
        self.stop()
        for server in (self.database_server, self.broker_server):
            server.remove()

    def calm(self) -> None:
        """End the workers, and forget what was sent."""
        self.kill_workers()
        self._ask("/forget/")
        self.broker_server.empty()
        for path in (self.gateway.log, *(self.folder / name for name in (HANGS, SLOW, POISON_LOG))):
            path.unlink(missing_ok=True)
        self._read = self._accepted = 0
        self._expected.clear()
        self._perhaps.clear()
        self._calls.clear()

    # Workers

    def work(self, count: int = 1, *options: str, ready: bool = True, **environment: str) -> None:
        """Start workers, of two processes each unless the options say otherwise.

        :param options: more for the command.
        :param ready: whether to wait until they are.
        """
        started = []
        for _ in range(count):
            self._workers_started += 1
            name = f"worker{self._workers_started}"
            started.append(self.start_worker(*options, name=name, **environment))
        self.workers += started
        for worker in started if ready else ():
            worker.wait_for_output(" ready.")

    def kill_workers(self) -> None:
        """Kill all workers with their processes."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    @contextmanager
    def another_web(self, **environment: str) -> Iterator[None]:
        """Have what the body asks for asked of another web server."""
        address = self.address
        web = self.start_web(name="another-web", **environment)
        try:
            yield
        finally:
            self.address = address
            web.stop()

    def processes_of(self, worker: Process) -> list[int]:
        """Return the processes of a worker's pool."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    # The gateways

    @contextmanager
    def gateway_hangs(self) -> Iterator[None]:
        """Have the gateway "other" accept calls in the body, and never answer them."""
        with self._there_is(HANGS):
            yield

    @contextmanager
    def gateway_is_slow(self) -> Iterator[None]:
        """Have every call of the gateways take 300 ms longer in the body."""
        with self._there_is(SLOW):
            yield

    @contextmanager
    def _there_is(self, name: str) -> Iterator[None]:
        (self.folder / name).touch()
        try:
            yield
        finally:
            (self.folder / name).unlink()

    # What is asked for

    def send(
        self, count: int, *, refused: int = 0, path: str = "/broadcast/", **options: Any
    ) -> None:
        """Have a new text sent to so many people.

        :param refused: how many of them the gateway refuses the first time.
        :param path: another way to do it, with its options; ``commit`` says whether it arrives.
        """
        text = f"broadcast {next(self._numbers)}"
        identities = [f"+4{number:05}" for number in range(count - refused)]
        identities += [f"{REFUSED_ONCE}{number:05}" for number in range(refused)]
        body = {"text": text, "identities": identities, **options}
        wanted = [(identity, text) for identity in identities if options.get("commit", True)]
        self._expect(wanted, lambda: self._ask(path, json.dumps(body).encode()))

    def ping(self, number: int) -> None:
        """Have a message come in that is to be answered."""
        identity = f"+1{number % 50:04}"
        wanted = [(identity, f"pong {number}")]
        self._expect(wanted, lambda: self.post_sms(identity, f"ping {number}"))

    def _expect(self, wanted: list[tuple[str, str]], ask: Callable[[], object]) -> None:
        start = time.monotonic()
        try:
            ask()
        except OSError:
            self._perhaps.update(wanted)
            raise
        finally:
            self._calls.append(time.monotonic() - start)
        self._expected.update(wanted)

    # What came of it

    def longest_call(self) -> float:
        """Return the longest that anybody who asked for something waited, in seconds."""
        return max(self._calls, default=0.0)

    def progress(self) -> int:
        """Return how many SMS the gateway was given."""
        if self.gateway.log.exists():
            with self.gateway.log.open("rb") as log:
                log.seek(self._read)
                new = log.read()
            self._read += len(new)
            self._accepted += new.count(b"\n")
        return self._accepted

    def until(self, look: Callable[[], Any], patience: float = LATE) -> None:
        """Look until there is something to be seen."""
        deadline = time.monotonic() + patience
        while not look():
            assert time.monotonic() < deadline, f"{self.progress()} accepted, {self.counts()}"
            time.sleep(INTERVAL)

    def until_accepted(self, count: int) -> None:
        """Wait until the gateway was given so many SMS."""
        self.until(lambda: self.progress() >= count)

    def counts(self) -> dict[str, Any] | None:
        """Return the counts of what is stored; ``None`` if nobody can tell at the moment."""
        try:
            return json.loads(self._ask("/counts/"))
        except OSError:
            return None

    def is_whole(self) -> bool:
        """Return whether nothing is left to be done."""
        counts = self.counts()
        if counts is None or counts["batches"]:
            return False
        return not counts["messages"].keys() & {"IQ", "OQ", "OP"}

    def end(self) -> Figures:
        """Wait until nothing is left to be done; return what came of it.

        To be called at once after the last fault.
        """
        start = time.monotonic()
        while not (whole := self.is_whole()) and time.monotonic() < start + LATE:
            time.sleep(POLL_INTERVAL)
        seconds = time.monotonic() - start
        accepted = Counter(accepted_by(record) for record in self.gateway.records())
        del accepted[None]
        return Figures(
            lost=(self._expected - accepted).total(),
            extra=(accepted - self._expected - self._perhaps).total(),
            stuck=self._stuck(self.counts()) or int(not whole),
            seconds=seconds,
            call=self.longest_call(),
        )

    def _stuck(self, counts: dict[str, Any] | None) -> int:
        texts = {text for _, text in self._expected}
        replies = sum(text.startswith("pong") for _, text in self._expected)
        right = {
            "messages": {"OS": len(texts), "IR": replies},
            "transmissions": {"OS": self._expected.total(), "IR": replies},
        }
        found = counts or {"messages": {}, "transmissions": {}}
        return sum((Counter(right[kind]) - Counter(found[kind])).total() for kind in right)


def accepted_by(record: Record) -> tuple[str, str] | None:
    """Return the number and the text, if the gateway did not refuse them."""
    return (record.identity, record.text) if record.accepted else None
