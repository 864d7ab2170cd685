"""Workers of every pool and in the background, and what they finish before they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import servers
from tests.acceptance.running import ROOT, Process, Project, wait_for

#: A Celery app whose tasks leave something in flight for two seconds.
SLOW = """
import os, threading, time
from pathlib import Path
from celery import Celery
from rapidsms_db_router.worker.shutdown import on_shutdown

HERE = Path(__file__).parent
app = Celery(broker=os.environ["BROKER"])
if app.conf.broker_url == "filesystem://":
    app.conf.broker_transport = "rapidsms_db_router.brokers.filesystem.Transport"
folders = "data_folder_in", "data_folder_out", "control_folder"
app.conf.broker_transport_options = {
    "global_keyprefix": os.environ["PREFIX"],
    **dict.fromkeys(folders, str(HERE / "queue")),
}

def call(task):
    # the second is in flight for longer than a pool takes to notice that it is to end
    time.sleep(6 if task == "two" else 2)
    (HERE / f"{task}.called").touch()

@app.task(name="rapidsms_db_router.begin")
def begin(task, seconds):
    thread = threading.Thread(target=call, args=[task], daemon=True)
    thread.start()
    on_shutdown(thread.join)
    (HERE / f"{task}.begun").write_text(str(os.getpid()))
    time.sleep(seconds)
    (HERE / f"{task}.ran").touch()
"""


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


@pytest.mark.long
def test_a_worker_in_the_background(project: Project, pidfile: Path) -> None:
    log = pidfile.with_suffix(".log")
    where = f"--pidfile={pidfile}", f"--logfile={log}", "--loglevel=info"

    project.manage("celery", "worker", "--detach", "-c", "1", "-n", "w1@localhost", *where)

    wait_for("the worker", lambda: log.exists() and "w1@localhost ready." in log.read_text())
    assert_answers(project, "from the background")
    os.kill(int(pidfile.read_text()), signal.SIGTERM)
    wait_for("the worker's end", lambda: not pidfile.exists())


@pytest.mark.long
@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_workers_that_celery_multi_starts(project: Project, tmp_path: Path, pool: str) -> None:
    if find_spec(pool) is None and pool != "prefork":
        pytest.skip(f"{pool} is not installed")
    names = ["w1", "w2"]
    where = f"--pidfile={tmp_path / '%n.pid'}", f"--logfile={tmp_path / '%n.log'}"
    options = "--hostname=localhost", "-c", "1", "-l", "info", f"-P{pool}", *where

    def pids() -> list[str]:
        return sorted(path.stem for path in tmp_path.glob("*.pid"))

    try:
        project.manage("celery", "multi", "start", *names, *options)
        for name in names:
            log, ready = tmp_path / f"{name}.log", f"{name}@localhost ready."
            wait_for(name, lambda log=log, ready=ready: log.exists() and ready in log.read_text())
        assert pids() == names
        assert_answers(project, f"from one of many {pool}")
        project.manage("celery", "multi", "stopwait", *names, "--hostname=localhost", *where)
        assert pids() == []
    finally:
        for name in pids():
            os.kill(int((tmp_path / f"{name}.pid").read_text()), signal.SIGKILL)


class Slow:
    """A worker of :data:`SLOW` with one process in its pool."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        (folder / "queue").mkdir()
        (folder / "slow.py").write_text(SLOW)
        path = os.pathsep.join([str(folder), str(ROOT)])
        self.prefix = f"{folder.name}.{os.getpid()}:"
        self.environment = {
            **os.environ,
            "BROKER": broker,
            "PREFIX": self.prefix,
            "PYTHONPATH": path,
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        options = "-c", "1", "-l", "info", "-n", f"{folder.name}@localhost"
        command = self.celery("worker", *options)
        self.worker = Process(command, self.environment, folder / "worker.log")

    def celery(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "slow", *words]

    def begin(self, task: str, seconds: float) -> int:
        """Have a task run for so many seconds; return who runs it, once its call is in flight."""
        arguments = f'["{task}", {seconds}]'
        call = self.celery("call", "rapidsms_db_router.begin", "-a", arguments)
        subprocess.run(call, env=self.environment, check=True, capture_output=True)
        wait_for(f"task {task}", lambda: self.has(f"{task}.begun"))
        if not seconds:
            wait_for("its end", lambda: self.has(f"{task}.ran"))
        return int((self.folder / f"{task}.begun").read_text())

    def has(self, name: str) -> bool:
        path = self.folder / name
        return path.exists() and (path.suffix != ".begun" or path.read_text() != "")


@pytest.fixture(params=["filesystem", "redis"])
def slow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Slow]:
    """A worker that runs, and whose calls take long."""
    if request.param == "redis":
        servers.require("redis")
    slow = Slow(tmp_path, servers.BROKERS.get(request.param, "filesystem://"))
    try:
        slow.worker.wait_for_output(" ready.")
        yield slow
    finally:
        print(slow.worker.output())
        slow.worker.kill()
        if request.param == "redis":
            with servers.connect_broker("redis") as connection:
                client = connection.default_channel.client
                for key in client.scan_iter(f"{slow.prefix}*"):
                    client.delete(key)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0, 1], ids=["idle", "busy"])
def test_a_process_that_is_terminated_finishes_first(slow: Slow, seconds: float) -> None:
    process = slow.begin("one", seconds)

    os.kill(process, signal.SIGTERM)
    wait_for("its call", lambda: slow.has("one.called"))

    assert slow.has("one.ran")
    assert slow.begin("two", 0) != process
    assert_ends_well(slow, slow.worker.send_signal)
    assert slow.has("two.called")


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0, 1], ids=["idle", "busy"])
def test_a_process_group_that_is_terminated_finishes_first(slow: Slow, seconds: float) -> None:
    slow.begin("one", seconds)

    assert_ends_well(slow, lambda number: os.killpg(slow.worker.pid, number))

    assert slow.has("one.ran")
    assert slow.has("one.called")


@pytest.mark.long
def test_no_process_outlives_its_worker_for_long(slow: Slow) -> None:
    process = slow.begin("one", 0)

    slow.worker.send_signal(signal.SIGKILL)

    wait_for("its end", lambda: not is_alive(process))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def assert_ends_well(slow: Slow, send_signal: Callable[[signal.Signals], None]) -> None:
    send_signal(signal.SIGTERM)
    assert slow.worker.wait() == 0
    assert "ERROR" not in slow.worker.output()
