"""What a page says is done word for word, in an empty folder with an environment of its own."""

from __future__ import annotations

import json
import subprocess

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
