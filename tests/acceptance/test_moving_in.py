"""A project that has used the old router for real moves in, and back, and in again."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rapidsms_db_router.moving_in import keys
from tests import servers
from tests.acceptance.project.gateway import REFUSED_ALWAYS
from tests.acceptance.running import Process, Project, wait_for

BEFORE, BESIDE, AFTER = ({"DB_ROUTER_TEST_MOVE": when} for when in ("before", "beside", "after"))
OLD, OURS = "db", "rapidsms_db_router"
PINGS = 40
#: How the numbers begin at which the gateway hangs.
HANGING = "+4"


@pytest.fixture(params=["sqlite", *servers.DATABASES])
def project(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Project]:
    """A project with the tables of the old router alone."""
    servers.require("redis", *({request.param} & servers.CONNECT.keys()))
    project = Project(
        tmp_path,
        database=request.param,
        broker=servers.BROKERS["redis"],
        package="project_that_moves",
    )
    try:
        project.create()
        yield project
    finally:
        project.drop()


def run(project: Project, log: str, *arguments: str, check: bool = True, **environment: str) -> str:
    """Run a command to its end, and return what it said."""
    process = project.start(log, "manage.py", *arguments, **environment)
    status = process.wait()
    project.processes.remove(process)
    assert status == 0 or not check, process.output()
    return process.output()


def act(project: Project, *what: str, **environment: str) -> str:
    return run(project, f"act-{what[0]}", "act", *what, **environment)


def move(project: Project, *options: str, check: bool = True, **environment: str) -> str:
    """Move in, and return what the command said.

    :param check: whether every old row has to be here: not while the old router works.
    """
    return run(project, "import", "import_router_db", *options, check=check, **environment)


def tell(project: Project, label: str, **environment: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(act(project, "tell", label, **environment).splitlines()[-1])
    return told


def start_worker(project: Project, name: str, **environment: str) -> Process:
    package = "tests.acceptance.project_that_moves"
    options = ("-A", package, "worker", "-c", "2", "--loglevel=info", "-n", f"{name}@localhost")
    worker = project.start(name, "-m", "celery", *options, **environment)
    worker.wait_for_output(" ready.")
    return worker


@contextmanager
def texts_coming_in(project: Project, first: int, **environment: str) -> Iterator[None]:
    """Have texts come in, in a process of their own, as long as the body takes."""
    thread = threading.Thread(
        target=act,
        args=(project, "receive", "ping", str(first), str(first + PINGS)),
        kwargs=environment,
    )
    thread.start()
    yield
    thread.join()


def answered(project: Project) -> Counter[str]:
    """Return how often each ping was answered at the gateway."""
    return Counter(record.text for record in project.gateway.records() if record.accepted)


@pytest.mark.long
def test_a_project_moves_in_and_back_and_in_again(project: Project) -> None:
    hang = project.folder / "hang"
    hang.write_text(HANGING)
    # the years before: every status, as the old router leaves it
    worker = start_worker(project, "old", **BEFORE)
    act(project, "receive", "ping", "0", str(PINGS), **BEFORE)
    act(project, "receive", "break", "0", "2", **BEFORE)
    act(project, "send", "news", "+1", "30", **BEFORE)
    act(project, "send", "refused", REFUSED_ALWAYS, "3", **BEFORE)
    wait_for(
        "answers", lambda: tell(project, OLD, **BEFORE)["Transmission"].get("S", 0) == PINGS + 30
    )
    act(project, "deliver", "news", **BEFORE)
    act(project, "send", "hanging", HANGING, "3", **BEFORE)
    wait_for(
        "a call that hangs", lambda: tell(project, OLD, **BEFORE)["Transmission"].get("P") == 3
    )
    worker.send_signal_to_all(signal.SIGKILL)
    worker.wait()
    act(project, "receive", "ping", "100", "103", **BEFORE)
    assert set(tell(project, OLD, **BEFORE)["Transmission"]) == set("QRPSDE")

    # beside: the old router works while its messages come over
    project.manage("migrate", "--verbosity=0", **BESIDE)
    project.manage("check", "--fail-level", "INFO", **BESIDE)
    worker = start_worker(project, "old-beside", **BESIDE)
    with texts_coming_in(project, 200, **BESIDE):
        project.manage("import_router_db", "--dry-run", **BESIDE)
        move(project, check=False, **BESIDE)
    wait_for("answers", lambda: f"pong {199 + PINGS}" in answered(project))
    worker.stop()

    # the one moment: the other setting
    worker = start_worker(project, "new", **AFTER)
    with texts_coming_in(project, 300, **AFTER):
        move(project, **AFTER)
    hang.unlink()
    # what the dead worker had is in the broker, and no worker knows those tasks any more
    move(project, "--unfinished", "send", **AFTER)
    wait_for("answers", lambda: f"pong {299 + PINGS}" in answered(project))
    wait_for("what was held", lambda: answered(project)["hanging"] == 3)
    was, here = tell(project, OLD, **BESIDE), tell(project, OURS, **AFTER)
    old_texts = {pk: text for pk, _, text, _ in was["texts"]}
    texts = {pk: text for pk, _, text, _ in here["texts"]}
    assert old_texts.items() <= texts.items()
    new = {pk: text for pk, text in texts.items() if pk not in old_texts}
    assert min(new) > keys.GAP
    assert {f"ping {number}" for number in range(300, 300 + PINGS)} <= set(new.values())
    assert not {"Q", "P"} & here["Transmission"].keys()
    twice = {text for text, count in answered(project).items() if count > 1 and "pong" in text}
    assert twice == set()
    worker.stop()

    # back: the old setting, and the old tables as they were left
    assert tell(project, OLD, **BEFORE) == tell(project, OLD, **BEFORE)
    worker = start_worker(project, "back", **BEFORE)
    with texts_coming_in(project, 400, **BEFORE):
        pass
    wait_for("answers", lambda: f"pong {399 + PINGS}" in answered(project))
    worker.stop()

    # and in again: what the old router has stored meanwhile comes over
    worker = start_worker(project, "again", **AFTER)
    move(project, **AFTER)
    again = tell(project, OURS, **AFTER)
    texts = {pk: text for pk, _, text, _ in again["texts"]}
    assert new.items() <= texts.items()
    for number in range(400, 400 + PINGS):
        assert list(texts.values()).count(f"ping {number}") == 1
