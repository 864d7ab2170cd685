"""Workers of every pool, and workers in the background, as ``manage.py celery`` starts them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.running import Project, wait_for


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with its web server, on SQLite and files, which are there everywhere."""
    folder = tmp_path_factory.mktemp("pools")
    project = Project(folder, database="sqlite", broker="filesystem://")
    try:
        project.create()
        project.start_web()
        yield project
    finally:
        project.drop()


@pytest.fixture
def pidfile(tmp_path: Path) -> Iterator[Path]:
    """Where a worker in the background writes its number; it is killed if the test has left it."""
    path = tmp_path / "w1.pid"
    yield path
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(path.read_text()), signal.SIGKILL)


def assert_answers(project: Project, text: str) -> None:
    """Send a text in, and wait until its answer has gone out."""
    project.post_sms("+15550100", f"ping {text}")
    wait_for(f"the answer to {text}", lambda: f"pong {text}" in sent(project))
    assert sent(project).count(f"pong {text}") == 1


def sent(project: Project) -> list[str]:
    return [record.text for record in project.gateway.records()]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_a_text_is_answered(project: Project, pool: str) -> None:
    if pool in ("gevent", "eventlet") and find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed")
    worker = project.start_worker("-P", pool, name=pool)
    worker.wait_for_output(" ready.")

    assert_answers(project, pool)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "Traceback" not in worker.output()


def test_a_worker_in_the_background(project: Project, pidfile: Path) -> None:
    log = pidfile.with_suffix(".log")
    where = f"--pidfile={pidfile}", f"--logfile={log}", "--loglevel=info"

    project.manage("celery", "worker", "--detach", "-c", "1", "-n", "w1@localhost", *where)

    wait_for("the worker", lambda: log.exists() and "w1@localhost ready." in log.read_text())
    assert_answers(project, "from the background")
    os.kill(int(pidfile.read_text()), signal.SIGTERM)
    wait_for("the worker's end", lambda: not pidfile.exists())


def test_workers_that_celery_multi_starts(project: Project, pidfile: Path) -> None:
    log = pidfile.with_suffix(".log")
    where = f"--pidfile={pidfile.with_name('%n.pid')}", f"--logfile={log.with_name('%n.log')}"

    project.manage("celery", "multi", "start", "w1@localhost", "-c", "1", "-l", "info", *where)

    wait_for("the worker", lambda: log.exists() and "w1@localhost ready." in log.read_text())
    assert [path.name for path in pidfile.parent.glob("*.pid")] == ["w1.pid"]
    assert_answers(project, "from one of many")
    project.manage("celery", "multi", "stopwait", "w1@localhost", *where)
    wait_for("the worker's end", lambda: not pidfile.exists())
