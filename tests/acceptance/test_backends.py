"""RapidSMS's backends through the router, and gateways that fail, over real HTTP."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.project_with_gateways.gateways import BAD, HANGING
from tests.acceptance.running import ROOT, Process, Project, wait_for

pytestmark = pytest.mark.long
#: How long the gateway is out of order, in seconds.
OUT_OF_ORDER = 60
RECIPIENTS = 400
#: Calls until a gateway counts as out of order, and those that are in flight by then.
AT_FIRST = 3 + 5
PATIENCE = 180
#: For how many messages a gateway hangs, for how long, and how soon others are answered meanwhile,
#: in seconds.
HANGS_FOR, HANGS, ANSWERED = 100, 15, 10


class Gateways:
    """The gateways, in a process of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "tests.acceptance.project_with_gateways.gateways"]
        log = folder / "gateways.log"
        self.process = Process([*command, str(folder)], {}, log, cwd=ROOT)
        address = folder / "address"
        wait_for("the gateways", lambda: self.process.runs() and address.exists())
        self.address = address.read_text()

    @contextmanager
    def answering(self, status: int) -> Iterator[None]:
        """Have every call answered with a status."""
        (self.folder / "status").write_text(str(status))
        try:
            yield
        finally:
            (self.folder / "status").unlink()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Have calls of one backend be accepted, and never answered."""
        (self.folder / "hangs").touch()
        try:
            yield
        finally:
            (self.folder / "hangs").unlink()

    def calls(self, path: str) -> list[dict[str, Any]]:
        """Return all calls so far."""
        log = self.folder / "calls.jsonl"
        found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call for call in found if call["path"] == path]


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[Gateways]:
    gateways = Gateways(tmp_path)
    try:
        yield gateways
    finally:
        gateways.process.stop()


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory, gateways: Gateways) -> Iterator[Project]:
    """A migrated project with its web server and its worker running."""
    project = Project(
        tmp_path_factory.mktemp("gateways"),
        database="sqlite",
        broker="filesystem://",
        package="project_with_gateways",
        environment={"DB_ROUTER_TEST_GATEWAY": gateways.address},
    )
    try:
        project.create()
        project.start_web()
        # shorter than a call may take: time limits of tasks concern no call
        project.start_worker("--soft-time-limit", "4").wait_for_output(" ready.")
        yield project
    finally:
        project.drop()


def statuses(project: Project, text: str) -> dict[str, str]:
    """Return the status of each transmission of a message, by identity."""
    return {
        row["connection__identity"]: row["status"]
        for message in project.messages()
        if message["text"] == text
        for row in message["transmissions"]
    }


def wait_for_answer(project: Project, identity: str, text: str) -> None:
    wait_for(f"{text!r}", lambda: statuses(project, text) == {identity: "S"})


def test_each_backend_takes_a_ping_and_its_pong(project: Project, gateways: Gateways) -> None:
    ask = requests.Session()
    ask.post(f"{project.address}/http/", {"identity": "+11", "text": "ping http"})
    wait_for_answer(project, "+11", "pong http")
    (call,) = gateways.calls("/http")
    assert call["body"].pop("id")
    assert call["body"] == {"text": "pong http", "to": ["+11"]}

    vumi = {
        "message_id": "an id of Vumi's",
        "from_addr": "+12",
        "to_addr": "1234",
        "content": "ping vumi",
        "transport_name": "sms",
        "transport_type": "sms",
    }
    for _ in range(2):  # Vumi repeats itself
        assert ask.post(f"{project.address}/vumi/", json=vumi).status_code == 200
    wait_for_answer(project, "+12", "pong vumi")
    (call,) = gateways.calls("/vumi")
    assert call["authorization"].startswith("Basic ")
    assert call["body"]["to_addr"] == ["+12"]
    assert call["body"]["content"] == "pong vumi"
    assert call["body"]["in_reply_to"] == "an id of Vumi's"

    ask.post(f"{project.address}/database/", {"identity": "+13", "text": "ping database"})
    wait_for_answer(project, "+13", "pong database")

    options = "--noinput", "--username=staff", "--email=staff@example.org"
    project.manage("createsuperuser", *options, DJANGO_SUPERUSER_PASSWORD="of a test")
    login, tester = f"{project.address}/admin/login/", f"{project.address}/httptester/14/"
    ask.get(login)
    token = {"csrfmiddlewaretoken": ask.cookies["csrftoken"]}
    ask.post(login, {"username": "staff", "password": "of a test", **token})
    token = {"csrfmiddlewaretoken": ask.cookies["csrftoken"]}
    form = {"identity": "14", "text": "ping tester", "send-btn": "Send", **token}
    assert ask.post(tester, form).status_code == 200
    wait_for_answer(project, "14", "pong tester")
    shown = ask.get(tester).text
    assert "ping tester" in shown
    assert "pong tester" in shown

    stored = ask.get(f"{project.address}/backend-messages/").json()
    assert [(row["name"], row["direction"], row["text"]) for row in stored] == [
        ("database", "O", "pong database"),
        ("message_tester", "I", "ping tester"),
        ("message_tester", "O", "pong tester"),
    ]
    for process in project.processes:
        assert "Traceback" not in process.output()


def test_a_gateway_that_is_out_of_order_for_a_minute(project: Project, gateways: Gateways) -> None:
    everyone = [f"+4{number:05}" for number in range(RECIPIENTS)]
    start = time.time()
    with gateways.answering(500):
        project.broadcast("news", everyone, "http")
        wait_for("its first calls", lambda: len(gateways.calls("/http")) >= 3)
        wait_for("a minute", lambda: time.time() > start + OUT_OF_ORDER, 2 * OUT_OF_ORDER)
        failed = gateways.calls("/http")
        found = Counter(statuses(project, "news").values())
    assert {call["status"] for call in failed} == {500}
    # those at first, one after about 10 s, one 20 s later, perhaps one more
    assert len(failed) <= AT_FIRST + 3
    assert found["Q"] >= RECIPIENTS - AT_FIRST * 20
    assert set(found) <= {"Q", "E", "P"}
    wait_for(
        "all to be sent",
        lambda: set(statuses(project, "news").values()) == {"S"},
        PATIENCE,
    )
    sent = Counter(
        identity
        for call in gateways.calls("/http")
        if call["status"] == 200
        for identity in call["body"]["to"]
    )
    assert sent == Counter(everyone)
    (message,) = project.messages()
    assert (message["status"], message["error"]) == ("S", "")


def test_a_gateway_that_refuses_certain_numbers(project: Project, gateways: Gateways) -> None:
    good = [f"+4{number:05}" for number in range(RECIPIENTS)]
    bad = [f"{BAD}{number:05}" for number in range(6)]
    project.broadcast("news", good[:200] + bad + good[200:], "http")
    expected = dict.fromkeys(good, "S") | dict.fromkeys(bad, "E")
    wait_for("all to be sent or refused", lambda: statuses(project, "news") == expected)
    (message,) = project.messages()
    for row in message["transmissions"]:
        assert row["next_try"] is None
        assert ("400 Client Error" in row["error"]) is (row["status"] == "E")
    assert message["error"] == f"{len(bad)} of {len(good) + len(bad)} transmissions errored"
    taken = [call["body"]["to"] for call in gateways.calls("/http") if call["status"] == 200]
    assert Counter(identity for to in taken for identity in to) == Counter(good)


def test_a_gateway_that_never_answers(project: Project, gateways: Gateways) -> None:
    """It delays nobody but its own messages; with default dates, so that nothing is rescued."""
    texts = [f"news {number}" for number in range(HANGS_FOR)]
    ask = requests.Session()

    def ping(number: int) -> None:
        ask.post(f"{project.address}/http/", {"identity": "+11", "text": f"ping {number}"})
        wait_for_answer(project, "+11", f"pong {number}")

    with gateways.hanging():
        for text in texts:
            project.broadcast(text, ["+12"], "hanging")
        start = time.monotonic()
        numbers = itertools.count()
        while time.monotonic() < start + HANGS:
            asked = time.monotonic()
            ping(next(numbers))
            assert time.monotonic() - asked < ANSWERED
        assert gateways.calls(HANGING) == []

    def all_sent() -> bool:
        found = {message["text"]: message["status"] for message in project.messages()}
        return all(found[text] == "S" for text in texts)

    wait_for("all messages to be sent", all_sent, PATIENCE)
    taken = Counter(call["body"]["text"] for call in gateways.calls(HANGING))
    assert taken == Counter(texts), "each once"
