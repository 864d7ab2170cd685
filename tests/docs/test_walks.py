"""What a page says is done word for word, in an empty folder with an environment of its own."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.acceptance.kannel import require
from tests.acceptance.running import wait_for
from tests.docs.pages import ROOT, blocks
from tests.docs.terminal import Terminal

#: Of each message: direction, text and status.
MESSAGES = """
import json
from rapidsms_db_router.models import Message
print(json.dumps(list(Message.objects.order_by("pk").values_list("direction", "text", "status"))))
"""


def messages(terminal: Terminal) -> list[list[str]]:
    """Return what the project has stored."""
    said = subprocess.run(
        [terminal.project / ".venv" / "bin" / "python", "manage.py", "shell", "-c", MESSAGES],
        cwd=terminal.project,
        env=terminal.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(said.stdout.splitlines()[-1])


@pytest.mark.long
def test_the_quickstart_of_the_readme_answers_an_sms(terminal):
    done = [block for block in blocks(ROOT / "README.rst") if block.section == "Quickstart"]
    for block in done:
        terminal.do(block)
    assert set(terminal.processes) == {"web server", "worker"}
    assert messages(terminal) == [
        ["I", "hello Ann", "R"],
        ["O", "Hello, Ann!", "S"],
        ["O", "The clinic is open.", "S"],
    ]


@pytest.mark.long
def test_the_tutorial_answers_while_it_says_so_and_waits_while_it_says_so(terminal):
    for block in blocks(ROOT / "docs" / "tutorial.rst"):
        if block.section == "Stop the worker" and "worker" in terminal.processes:
            terminal.interrupt("worker")
        terminal.do(block)
        if block.section == "Stop the worker" and "worker" not in terminal.processes:
            assert messages(terminal)[-1] == ["I", "hours Friday", "Q"]
        elif "batch_requeued" in block.text:
            assert messages(terminal)[-1] == ["O", "Hello, Carol!", "P"]
    assert messages(terminal) == [
        ["I", "hello Ann", "R"],
        ["O", "Hello, Ann!", "S"],
        ["I", "hours Friday", "R"],
        ["O", "Friday: 8 to 12", "S"],
        ["I", "hello Carol", "R"],
        ["O", "Hello, Carol!", "S"],
    ]


@pytest.mark.long
def test_kannel_answers_a_telephone_and_reports_the_answer(terminal):
    require()
    for block in blocks(ROOT / "docs" / "howto" / "kannel.rst"):
        terminal.do(block)
    assert set(terminal.processes) == {
        "bearerbox",
        "smsbox",
        "web server",
        "worker",
        "telephone",
    }
    done = [["I", "hello Ann", "R"], ["O", "Hello, Ann!", "D"]]
    wait_for("the reports to count", lambda: messages(terminal) == done)
