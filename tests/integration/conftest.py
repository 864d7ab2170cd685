"""A backend that is installed; a broker and a worker inside this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple, Protocol

import pytest
from celery import current_app
from celery.app.trace import trace_task
from django.db import connection
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.outbound.calls import Inline
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.worker import host, routers
from tests.integration.project import Project

#: The sender is not waited for longer than this, in seconds.
LONGEST_WAIT = 0.5


@pytest.fixture(autouse=True)
def _backends(installed_backends: dict[str, Any]) -> None:
    """Every test here has a backend."""


class Published(NamedTuple):
    """A task as it came out of the broker."""

    name: str
    kwargs: dict[str, Any]
    #: When it is to be run, or ``None`` for now.
    eta: str | None
    id: str


class Commit(Protocol):
    """Ends the body as a commit would: what waits for one is run."""

    def __call__(self, *, execute: bool) -> AbstractContextManager[Any]: ...


class Worker:
    """Takes tasks from the broker in memory and runs them as Celery's workers do.

    Its sender is stepped here, in the thread of the test.
    """

    def __init__(self, capture_on_commit_callbacks: Commit) -> None:
        self._capture = capture_on_commit_callbacks
        self.sender = Sender(Inline(routers.router))

    def commit(self) -> AbstractContextManager[Any]:
        """Return a context whose body is one committed transaction."""
        return self._capture(execute=True)

    def take(self) -> list[Published]:
        """Take all that is published, and run none of it."""
        taken = []
        with current_app.connection_for_read() as broker:
            queue = broker.SimpleQueue(current_app.conf.task_default_queue, no_ack=True)
            while True:
                try:
                    message = queue.get_nowait()
                except Empty:
                    break
                _, kwargs, _ = message.payload
                headers = message.headers
                name = headers["task"].rpartition(".")[2]
                taken.append(Published(name, kwargs, headers["eta"], headers["id"]))
            queue.close()
        return taken

    def run(self, published: Published) -> None:
        """Run a task in the way of a worker, not eagerly; then step its sender."""
        task = current_app.tasks[f"rapidsms_db_router.tasks.{published.name}"]
        request = {"id": published.id, "is_eager": False, "delivery_info": {}}
        with self.commit():
            trace_task(task, published.id, (), published.kwargs, request, app=current_app)
        self.step()

    def work(self) -> None:
        """Run everything that is published, also what that publishes."""
        while tasks := self.take():
            for published in tasks:
                self.run(published)

    def step(self) -> None:
        """Step the sender until it has nothing to do for now."""
        for _ in range(1000):
            self.sender.step()
            lanes = self.sender.lanes.values()
            waits = any(lane.held or lane.calls or lane.ended or lane.more for lane in lanes)
            if not waits or self.sender.next_step() > LONGEST_WAIT:
                return
            self.sender.wait(self.sender.next_step())
        raise AssertionError("The sender comes to no end.")

    def make_due(self) -> None:
        """Have all that waits for its date be due, and the sender look."""
        Transmission.objects.filter(next_try__isnull=False).update(next_try=now())
        Batch.objects.filter(claim_token=None).update(ready_at=now())
        for backend in Backend.objects.all():
            self.sender.wake(backend)
        self.step()


@pytest.fixture
def worker(
    celery_setting: Callable[[str, Any], None], django_capture_on_commit_callbacks: Commit
) -> Iterator[Worker]:
    """Have tasks published to a broker in memory, not run at once; and who runs them."""
    celery_setting("task_always_eager", False)
    worker = Worker(django_capture_on_commit_callbacks)
    worker.take()
    with host.stepped(worker.sender):
        yield worker
    worker.take()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in a folder of its own, without a Celery app of its own."""
    if connection.vendor != "sqlite":
        pytest.skip("the same whatever the database; done on SQLite")
    return Project(tmp_path)


@pytest.fixture
def sent(worker: Worker, people: Callable[..., list[Connection]]) -> Callable[..., Any]:
    """A function that sends to so many; returns the message and its transmissions."""

    def sent(count: int = 1, text: str = "news") -> tuple[Message, list[Transmission]]:
        with worker.commit():
            message = send(text, people(count)).database_message
        worker.work()
        return message, list(message.transmissions.order_by("pk"))

    return sent


def statuses(message: Message) -> str:
    """Return the status of a message, and those of its transmissions, in their order."""
    message.refresh_from_db()
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status + "".join(rows)
