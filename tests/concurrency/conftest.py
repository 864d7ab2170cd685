"""A router with one app and one gateway, both of which remember what they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from kombu.simple import SimpleQueue
from rapidsms.apps.base import AppBase
from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError
from rapidsms.models import Backend, Connection

from rapidsms_db_router import DatabaseRouter

BACKEND = "gateway"


class Echo(AppBase):
    """Answers every message once, and remembers which it was asked to answer."""

    def __init__(self, router: Any) -> None:
        super().__init__(router)
        self.handled: list[int] = []

    def handle(self, msg: Any) -> bool:
        self.handled.append(msg.id)
        msg.respond(f"echo {msg.text}")
        return True


class Gateway(BackendBase):
    """Remembers every number it was told to send to, and refuses them all if it is down."""

    def configure(self, **_: Any) -> None:
        self.sent: list[str] = []
        self.refused: list[str] = []
        self.down = False

    def send(self, id_: Any, text: str, identities: list[str], context: Any = None) -> None:
        if self.down:
            self.refused += identities
            raise MessageSendingError("The gateway is down.")
        self.sent += identities


@pytest.fixture
def router(settings: Any) -> DatabaseRouter:
    """The one router, so that a test sees what its app and its gateway saw."""
    settings.INSTALLED_BACKENDS = {BACKEND: {"ENGINE": f"{__name__}.Gateway"}}
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[Echo], backends={BACKEND: {"ENGINE": Gateway}})
    return settings.RAPIDSMS_ROUTER


@pytest.fixture
def echo(router: DatabaseRouter) -> Echo:
    return router.apps[0]


@pytest.fixture
def gateway(router: DatabaseRouter) -> Gateway:
    return router.backends[BACKEND]


@pytest.fixture
def make_connections(transactional_db: None) -> Callable[[int], list[Connection]]:
    """Make a given number of connections, all of the one gateway."""

    def make(count: int) -> list[Connection]:
        backend, _ = Backend.objects.get_or_create(name=BACKEND)
        Connection.objects.bulk_create(
            Connection(backend=backend, identity=f"+4930{number:05}") for number in range(count)
        )
        return list(Connection.objects.order_by("pk"))

    return make


@pytest.fixture
def published(settings: Any) -> Iterator[Callable[[], list[Any]]]:
    """Have tasks published instead of run at once; return those published since the last look."""
    settings.CELERY_TASK_ALWAYS_EAGER = False
    with current_app.connection_for_read() as broker:
        queue = SimpleQueue(broker.default_channel, current_app.conf.task_default_queue)

        def look() -> list[Any]:
            tasks = []
            while queue.qsize():
                message = queue.get_nowait()
                message.ack()
                _, kwargs, _ = message.payload
                tasks.append((message.headers["task"].rpartition(".")[2], kwargs))
            return tasks

        look()
        yield look
        look()
        queue.close()
