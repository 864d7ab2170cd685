"""Servers that may be stopped, killed and emptied: each with its own folder, port and data."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import kombu

from tests.acceptance.running import Process

#: Where distributions keep servers' programs, beside PATH; the newest PostgreSQL first, and
#: RabbitMQ's own script before a wrapper that would change its account and environment.
FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), key=len, reverse=True),
    *os.environ.get("PATH", "").split(os.pathsep),
    "/usr/sbin",
)
#: How long a client may wait for an answer, in seconds.
PATIENCE = 3
#: How long to wait before a server is asked again whether it is there, in seconds.
INTERVAL = 0.1


def find(program: str) -> str | None:
    """Return where a program is, if it is installed."""
    return shutil.which(program, path=os.pathsep.join(FOLDERS))


def free_port() -> int:
    """Return a port to listen on.

    Below those that the system gives to clients: one that looks for a stopped server at such a
    port may be given the same port, and find itself.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Server(ABC):
    """A server in a temporary folder."""

    #: What tests call it.
    name: ClassVar[str]
    #: What has to be installed.
    programs: ClassVar[tuple[str, ...]]
    #: Under which account it runs if the tests run as root, which some servers refuse.
    account: ClassVar[str | None] = None
    #: How to end it so that it has no time for anything.
    CRASH = signal.SIGKILL

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"storms-{self.name}-"))
        self._process: Process | None = None
        self._starts = 0
        self._options: dict[str, Any] = {"cwd": self.folder}
        if self.account and os.getuid() == 0:
            user = pwd.getpwnam(self.account)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @classmethod
    def missing(cls) -> list[str]:
        """Return the programs that are not installed."""
        return [program for program in cls.programs if find(program) is None]

    def install(self) -> None:  # noqa: B027 - not every server has something to be done
        """Lay out the folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return what runs it in the foreground."""

    def environment(self) -> dict[str, str]:
        """Return the environment in which its programs run."""
        return {**os.environ, "LC_ALL": "C", "HOME": str(self.folder)}

    @abstractmethod
    def ask(self) -> None:
        """Ask it something; raise if it does not answer."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._starts += 1
        log = self.folder.with_suffix(f".{self._starts}.log")
        self._process = Process(self.command(), self.environment(), log, **self._options)
        deadline = time.monotonic() + 60
        while self._process.runs():
            try:
                return self.ask()
            except Exception:  # each driver has its own errors
                assert time.monotonic() < deadline, f"{self.name}: {self._process.output()}"
                time.sleep(INTERVAL)

    def crash(self) -> None:
        """End it at once, as a fault would."""
        if self._process is not None:
            self._process.send_signal(self.CRASH)
            self._process.wait()
            self._process.kill()  # what is left of it
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it say nothing in the body; the system goes on taking connections for it."""
        assert self._process is not None
        self._process.send_signal_to_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal_to_all(signal.SIGCONT)

    def restart(self) -> None:
        """End it at once, and start it again."""
        self.crash()
        self.start()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Have it end at once, and start it again after the body."""
        self.crash()
        try:
            yield
        finally:
            self.start()

    def remove(self) -> None:
        """End it, and leave nothing of it."""
        self.crash()
        shutil.rmtree(self.folder)
        for log in self.folder.parent.glob(f"{self.folder.name}.*.log"):
            log.unlink()

    def run(self, *arguments: str) -> None:
        """Run one of its programs to its end."""
        subprocess.run(
            [str(find(arguments[0])), *arguments[1:]],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            **self._options,
        )


#: Executes a statement, and returns its rows.
Execute = Callable[[str], list[tuple[Any, ...]]]


class Database(Server):
    """A database server."""

    #: The database that is made for the tests.
    database = "storms"

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Return the environment that :mod:`tests.settings` reads."""

    @abstractmethod
    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Execute]:
        """Let the body execute statements on one connection of the administrator.

        :param database: in which database; else in one that is always there, or in none.
        """

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Execute a statement as its administrator; return the rows."""
        with self.connect(database) as execute:
            return execute(statement)

    @abstractmethod
    def create_database(self) -> None:
        """Create the tests' database, empty."""

    @abstractmethod
    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Have the project's writes refused in the body."""

    @abstractmethod
    @contextmanager
    def full(self) -> Iterator[None]:
        """Let the project's tables grow a little in the body, and then no more."""

    @abstractmethod
    def waiting(self) -> int:
        """Return how many transactions wait for a lock."""

    @abstractmethod
    def deadlocks(self) -> int:
        """Return how many deadlocks it has ended."""

    #: Cuts all the project's connections.
    CUT: ClassVar[str]

    def cut(self) -> None:
        """Cut all the project's connections."""
        self.execute(self.CUT)

    def crowd(self, seconds: float) -> int:
        """Have others use up all connections for so long.

        :returns: how often one of them was refused.
        """
        refused = 0
        with ExitStack() as others:
            execute = others.enter_context(self.connect())
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    others.enter_context(self.connect())
                except Exception:  # each driver has its own errors
                    refused += 1
                    execute(self.CUT)
                    time.sleep(INTERVAL)
        return refused

    def ask(self) -> None:
        self.execute("SELECT 1")


#: Size of a file of PostgreSQL's log in MB: the smallest there is, so that a limit may stop tables
#: at that size and still not the log, whose failure would end the server.
SEGMENT = 1


class PostgreSQL(Database):
    name = "postgresql"
    programs = ("initdb", "postgres", "prlimit")
    account = "postgres"
    #: "Immediate" shutdown: without saying good-bye, and to be recovered from the log.
    CRASH = signal.SIGQUIT

    def install(self) -> None:
        options = "--username=postgres", "--auth=trust", "--no-sync", f"--wal-segsize={SEGMENT}"
        self.run("initdb", "--pgdata=data", *options)

    def command(self) -> list[str]:
        options = "-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", ""
        return [str(find("postgres")), *options]

    def settings(self) -> dict[str, str]:
        return {
            "DB_ROUTER_TEST_DATABASE": "postgres",
            "DB_ROUTER_TEST_NAME": self.database,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
        }

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Execute]:
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "user": "postgres"}
        where["dbname"] = database or "postgres"
        with psycopg.connect(**where, connect_timeout=PATIENCE, autocommit=True) as connection:

            def execute(statement: str) -> list[tuple[Any, ...]]:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else []

            yield execute

    def create_database(self) -> None:
        self.execute(f"CREATE DATABASE {self.database}")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._set("default_transaction_read_only", "on")
        try:
            yield
        finally:
            self._set("default_transaction_read_only", "off")

    def _set(self, setting: str, value: str) -> None:
        """Have a setting hold for all connections."""
        with self.connect() as execute:
            execute(f"ALTER SYSTEM SET {setting} = {value}")
            execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE
        while self.execute(f"SELECT current_setting('{setting}') = '{value}'") != [(True,)]:
            assert time.monotonic() < deadline, setting
            time.sleep(INTERVAL)

    @contextmanager
    def full(self) -> Iterator[None]:
        # of what earlier storms have left, nothing is to be filled again
        self.execute("VACUUM FULL", self.database)
        self._limit(f"{SEGMENT * 2**20}")
        try:
            yield
        finally:
            self._limit("unlimited")

    def _limit(self, size: str) -> None:
        """Limit the size of files, in bytes, that the processes of new connections write."""
        assert self._process is not None
        # by its own account, which needs no privilege for that
        self.run("prlimit", f"--pid={self._process.pid}", f"--fsize={size}:")
        self.cut()

    def waiting(self) -> int:
        ((count,),) = self.execute(
            "SELECT count(*) FROM pg_stat_activity"
            f" WHERE datname = '{self.database}' AND wait_event_type = 'Lock'"
        )
        return count

    def deadlocks(self) -> int:
        ((count,),) = self.execute(
            f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{self.database}'"
        )
        return count

    CUT = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{Database.database}'"
    )


class MariaDB(Database):
    name = "mariadb"
    programs = ("mariadb-install-db", "mariadbd")
    account = "mysql"
    #: The project's: one whom "read only" applies to.
    user = "project"

    def install(self) -> None:
        self.run(
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )

    def command(self) -> list[str]:
        return [
            str(find("mariadbd")),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            # all tables in one file, for which there is only so much room
            "--innodb-file-per-table=OFF",
            "--innodb-data-file-path=ibdata1:12M:autoextend:max:96M",
        ]

    def settings(self) -> dict[str, str]:
        return {
            "DB_ROUTER_TEST_DATABASE": "mariadb",
            "DB_ROUTER_TEST_NAME": self.database,
            "MARIADB_HOST": "127.0.0.1",
            "MARIADB_PORT": str(self.port),
            "MARIADB_USER": self.user,
            "MARIADB_PASSWORD": "",
        }

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Execute]:
        import pymysql

        where = {"host": "127.0.0.1", "port": self.port, "user": "root", "database": database}
        with (
            pymysql.connect(
                **where, ssl_disabled=True, connect_timeout=PATIENCE, autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):

            def execute(statement: str) -> list[tuple[Any, ...]]:
                cursor.execute(statement)
                return list(cursor.fetchall())

            yield execute

    def create_database(self) -> None:
        self.execute(f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        self.execute(f"CREATE USER {self.user}@localhost")
        self.execute(f"GRANT ALL ON {self.database}.* TO {self.user}@localhost")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.execute("SET GLOBAL read_only = ON")
        try:
            yield
        finally:
            self.execute("SET GLOBAL read_only = OFF")

    @contextmanager
    def full(self) -> Iterator[None]:
        import pymysql

        self.execute("CREATE TABLE filler (bytes VARBINARY(4000))", self.database)
        try:
            for rows in (1000, 100, 10, 1):
                insert = f"INSERT INTO filler SELECT REPEAT('x', 4000) FROM seq_1_to_{rows}"
                with suppress(pymysql.OperationalError), self.connect(self.database) as execute:
                    while True:
                        execute(insert)
            yield
        finally:
            self.execute("DROP TABLE filler", self.database)

    def waiting(self) -> int:
        ((count,),) = self.execute(
            "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"
        )
        return count

    def deadlocks(self) -> int:
        ((_, count),) = self.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(count)

    CUT = f"KILL USER {user}@localhost"


class Broker(Server):
    """A server that hands on tasks."""

    #: The queue's name, from the project's settings.
    queue = Database.database

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, for Celery."""

    @abstractmethod
    def empty(self) -> None:
        """Have it forget all tasks."""

    @abstractmethod
    def cut(self) -> None:
        """Cut all its connections."""


class Redis(Broker):
    name = "redis"
    programs = ("redis-server",)

    def command(self) -> list[str]:
        # no file: what it knows is gone when it ends
        options = "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "."
        return [str(find("redis-server")), *options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _execute(self, *command: str) -> Any:
        import redis

        with redis.Redis(port=self.port, socket_timeout=PATIENCE) as client:
            return client.execute_command(*command)

    def ask(self) -> None:
        self._execute("PING")

    def empty(self) -> None:
        self._execute("FLUSHALL")

    def cut(self) -> None:
        self._execute("CLIENT", "KILL", "TYPE", "normal")

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """Have what needs memory refused in the body."""
        self._execute("CONFIG", "SET", "maxmemory", "1")
        try:
            yield
        finally:
            self._execute("CONFIG", "SET", "maxmemory", "0")

    @contextmanager
    def demoted(self) -> Iterator[None]:
        """Have it follow a server that is not there in the body: it refuses all writes."""
        self._execute("REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            yield
        finally:
            self._execute("REPLICAOF", "NO", "ONE")

    @contextmanager
    def unable_to_save(self) -> Iterator[None]:
        """Have it refuse all writes in the body, as it cannot write to its disk."""
        snapshot = self.folder / "dump.rdb"
        snapshot.mkdir()
        self._execute("CONFIG", "SET", "save", "3600 1")
        try:
            self._execute("BGSAVE")
            deadline = time.monotonic() + PATIENCE
            while self._execute("INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
                assert time.monotonic() < deadline
                time.sleep(INTERVAL)
            yield
        finally:
            snapshot.rmdir()
            self._execute("CONFIG", "SET", "save", "")

    def follow(self, other: Redis) -> None:
        """Have it be a copy of another."""
        self._execute("REPLICAOF", "127.0.0.1", str(other.port))


class Sentinel(Redis):
    """Watches a Redis and the copies that follow it.

    :param watched: the first of them.
    """

    name = "sentinel"
    #: What clients call the one that takes writes.
    master = "storms"

    def __init__(self, watched: Redis) -> None:
        super().__init__()
        self._watched = watched

    def install(self) -> None:
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {self.master} 127.0.0.1 {self._watched.port} 1\n"
        )

    def command(self) -> list[str]:
        return [str(find("redis-server")), "sentinel.conf", "--sentinel"]

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.port}"

    def fail_over(self) -> None:
        """Have another take writes, and wait until it does."""
        deadline = time.monotonic() + 60
        while True:  # it has to know of another first
            with suppress(Exception):
                self._execute("SENTINEL", "FAILOVER", self.master)
                break
            assert time.monotonic() < deadline
            time.sleep(INTERVAL)
        while str(self._watched.port) in self._address():
            assert time.monotonic() < deadline
            time.sleep(INTERVAL)

    def _address(self) -> str:
        return str(self._execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master))


class RabbitMQ(Broker):
    name = "rabbitmq"
    programs = ("rabbitmq-server", "rabbitmqctl", "epmd")

    def __init__(self) -> None:
        super().__init__()
        self._names_port = free_port()
        self._names: Process | None = None

    def install(self) -> None:
        (self.folder / "plugins").write_text("[].")
        # Erlang's name server, which RabbitMQ would leave running behind it
        self._names = Process(
            [str(find("epmd")), "-address", "127.0.0.1", "-port", str(self._names_port)],
            self.environment(),
            self.folder / "epmd.log",
        )

    def command(self) -> list[str]:
        return [str(find("rabbitmq-server"))]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"storms{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 1),
            "RABBITMQ_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
        }

    def remove(self) -> None:
        self.crash()
        if self._names is not None:
            self._names.stop()
        super().remove()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with kombu.Connection(self.url, connect_timeout=PATIENCE) as connection:
            yield connection.default_channel

    def ask(self) -> None:
        with self._channel():
            pass

    def empty(self) -> None:
        with self._channel() as channel:
            # the queue itself, and with it what workers have fetched and not done yet
            channel.queue_delete(self.queue)

    def cut(self) -> None:
        self.run("rabbitmqctl", "close_all_connections", "storm")

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        """Have it take nothing more from who publishes in the body."""
        self.run("rabbitmqctl", "set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            self.run("rabbitmqctl", "set_vm_memory_high_watermark", "0.8")
