"""Whatever state the broker is in: a message is stored soon, and none counts as published."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import pytest
from django.db import connection
from rapidsms.router import receive, send

from rapidsms_db_router.models import Message
from tests.acceptance.running import wait_for
from tests.servers import ALL_REQUIRED
from tests.storms.servers import RabbitMQ, Redis, Server

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        connection.vendor != "sqlite", reason="the same whatever the database; done on SQLite"
    ),
]

#: What one call of receive() or send() may take, in seconds: two, and one more
#: for a machine that is slow or busy.
SOON = 3
#: How many more messages come meanwhile; all of them together may take as long.
MORE = 10

#: Stores a message, outbound or inbound, and commits; returns its row.
Store = Callable[[Callable[..., Any]], Message]


@pytest.fixture
def store(celery_setting, people, django_capture_on_commit_callbacks) -> Store:
    celery_setting("task_always_eager", False)
    (person,) = people(1)

    def store(call: Callable[..., Any]) -> Message:
        with django_capture_on_commit_callbacks(execute=True):
            call("news", person)
        return Message.objects.latest("pk")

    return store


def publishes(store: Store) -> bool:
    """Send a message; return whether a worker was told of it."""
    return store(send).status == "P"


def assert_keeps_nobody_waiting(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "rapidsms_db_router"):
        caplog.clear()
        for call in (send, receive):
            start = time.monotonic()
            assert store(call).status == "Q"
            assert time.monotonic() - start < SOON
        start = time.monotonic()
        for _ in range(MORE):
            assert store(send).status == "Q"
        assert time.monotonic() - start < SOON
    said = [record.getMessage().partition(" ")[0] for record in caplog.records]
    assert said == ["publishing_failed"] * (2 + MORE), "one line for each message"
    assert "secret" not in caplog.text


# Without a broker: something else at its address, or nothing


def url_of(server: socket.socket, scheme: str) -> str:
    return f"{scheme}://someone:secret@127.0.0.1:{server.getsockname()[1]}//"


@contextmanager
def refusing() -> Iterator[socket.socket]:
    """Nothing listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server


@contextmanager
def listening(backlog: int = 64) -> Iterator[socket.socket]:
    """Connections are taken, and nothing is ever said."""
    with refusing() as server:
        server.listen(backlog)
        yield server


@contextmanager
def dropping_packets() -> Iterator[socket.socket]:
    """There is no answer at all, as the queue of connections is full."""
    with listening(backlog=0) as server, ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Each connection is taken, and answered."""
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        with client, suppress(OSError):
            answer(client)

    def take() -> None:
        with suppress(OSError):
            while not ended.is_set():
                client, _ = server.accept()
                threading.Thread(target=talk, args=[client], daemon=True).start()

    with listening() as server:
        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def closing() -> AbstractContextManager[socket.socket]:
    """Connections are closed after the first words, as by a server that expects TLS."""
    return answering(lambda client: client.recv(1000) and None)


def dripping() -> AbstractContextManager[socket.socket]:
    """An answer begins, and goes on byte by byte for longer than anybody may wait."""

    def drip(client: socket.socket) -> None:
        for _ in range(20):
            client.sendall(b"+")
            time.sleep(0.5)

    return answering(drip)


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
@pytest.mark.parametrize(
    "nothing",
    [refusing, listening, dropping_packets, closing, dripping],
    ids=lambda of: of.__name__,
)
def test_no_broker_keeps_nobody_waiting(celery_setting, store, caplog, nothing, scheme):
    with nothing() as server:
        celery_setting("broker_url", url_of(server, scheme))
        assert_keeps_nobody_waiting(store, caplog)


# With a broker that is in some state


def started(kind: type[Server]) -> Iterator[Server]:
    if missing := kind.missing():
        complain = pytest.fail if ALL_REQUIRED else pytest.skip
        complain(f"not installed: {', '.join(missing)}")
    server = kind()
    try:
        server.install()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    yield from started(Redis)


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    yield from started(RabbitMQ)


#: What is wrong with a broker in the body.
State = Callable[[Any], AbstractContextManager[None]]


def assert_survives(state: State, broker: Any, celery_setting, store, caplog) -> None:
    celery_setting("broker_url", broker.url)
    wait_for("a broker that works", lambda: publishes(store))
    with state(broker):
        assert_keeps_nobody_waiting(store, caplog)
    wait_for("the broker's return", lambda: publishes(store), patience=15)


@pytest.mark.parametrize(
    "state",
    [Redis.demoted, Redis.out_of_memory, Redis.unable_to_save, Redis.frozen],
    ids=lambda state: state.__name__,
)
def test_a_redis_that_refuses_keeps_nobody_waiting(redis, celery_setting, store, caplog, state):
    assert_survives(state, redis, celery_setting, store, caplog)


@pytest.mark.parametrize(
    "state", [RabbitMQ.out_of_memory, RabbitMQ.frozen], ids=lambda state: state.__name__
)
def test_a_rabbitmq_that_does_not_answer_keeps_nobody_waiting(
    rabbitmq, celery_setting, store, caplog, state
):
    """Also one to whom a connection is open: what is written to it counts for nothing."""
    assert_survives(state, rabbitmq, celery_setting, store, caplog)


@pytest.mark.parametrize(
    "url",
    [
        "redis://someone:secret@127.0.0.1:{redis}/0",
        "redis://127.0.0.1:{redis}/99",
        "rediss://127.0.0.1:{redis}/0?ssl_cert_reqs=none",
        "amqp://guest:secret@127.0.0.1:{rabbitmq}//",
        "amqp://guest:guest@127.0.0.1:{rabbitmq}/elsewhere",
        "amqps://guest:guest@127.0.0.1:{rabbitmq}//",
        "amqp://guest:guest@127.0.0.1:{redis}//",
        "redis://127.0.0.1:{rabbitmq}/0",
    ],
)
def test_a_url_that_is_wrong_keeps_nobody_waiting(
    redis, rabbitmq, celery_setting, store, caplog, url
):
    celery_setting("broker_url", url.format(redis=redis.port, rabbitmq=rabbitmq.port))
    assert_keeps_nobody_waiting(store, caplog)


# Without its name

#: Stores messages while no server of names answers, and says how long each took.
WITHOUT_NAMES = """
import json, socket, time
import django
django.setup()
from django.core.management import call_command
from rapidsms.router import lookup_connections, receive, send
from rapidsms_db_router.models import Message

names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.99", 53))  # and nothing is ever read
call_command("migrate", verbosity=0)
(person,) = lookup_connections("phones", ["+254700000000"])
took = []
for call in (send, receive, *[send] * 10):
    start = time.monotonic()
    call("news", person)
    took.append(time.monotonic() - start)
statuses = sorted(set(Message.objects.values_list("status", flat=True)))
print(json.dumps({"took": took, "statuses": statuses}))
"""


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_without_a_name_keeps_nobody_waiting(project, scheme):
    """The system looks for a name as long as it likes: 20 seconds, by default."""
    servers = project.folder / "resolv.conf"
    servers.write_text("nameserver 127.0.0.99\n")
    inside = "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    if subprocess.run([*inside, str(servers), "true"], check=False).returncode:
        complain = pytest.fail if ALL_REQUIRED else pytest.skip
        complain("no name server can be replaced here, since that takes root")
    project.add_settings(
        f"CELERY_BROKER_URL = '{scheme}://guest:guest@broker.example.org//'\n"
        "CELERY_TASK_ALWAYS_EAGER = False\n"
        f"DATABASES['default']['NAME'] = {str(project.folder / 'db.sqlite3')!r}\n"
        "INSTALLED_BACKENDS = {'phones': {'ENGINE': 'tests.service.backends.RecordingBackend'}}"
    )
    project.write("without_names.py", WITHOUT_NAMES)
    ended = project.python("without_names.py", before=[*inside, str(servers)])
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["statuses"] == ["Q"]
    assert max(said["took"]) < SOON
    assert sum(said["took"]) < 2 * SOON, "not asked again for each message"
    assert ended.stderr.count("publishing_failed") == len(said["took"])
