"""An app that writes to the database, and a gateway whose memory outlives the process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rapidsms.apps.base import AppBase
from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError
from rapidsms.models import Contact

from tests.faults.crashing import ACCEPTED, CALLING, crash_point


class Register(AppBase):
    """Registers whoever writes, each time, and answers."""

    def handle(self, msg: Any) -> bool:
        """Write a row of its own, then answer."""
        Contact.objects.create(name=msg.text)
        msg.respond(f"welcome {msg.text}")
        return True


class Gateway(BackendBase):
    """Appends what it accepts to a file, one line a call; may refuse a number once."""

    #: Who is refused the first time.
    refuses = ""
    #: So many calls fail as a whole, before all others are accepted.
    failures = 0
    #: Whether it returns ids of its own.
    names = False

    def configure(self, log: Path, **_: Any) -> None:
        """Take the file's path."""
        self.log = log

    def send(
        self, id_: Any, text: str, identities: list[str], context: Any = None
    ) -> dict[str, str] | None:
        """Write down who gets the message, and name who does not."""
        crash_point(CALLING)
        if len(_calls(self.log)) < self.failures:
            self._write({"accepted": [], "refused": identities})
            raise ConnectionError("out of order")
        failed = [i for i in identities if i == self.refuses and i not in refused(self.log)]
        call = {"accepted": [i for i in identities if i not in failed], "refused": failed}
        self._write(call)
        crash_point(ACCEPTED)
        if failed:
            raise MessageSendingError("refused", failed_identities=failed)
        return {identity: f"{id_} to {identity}" for identity in identities} if self.names else None

    def _write(self, call: dict[str, list[str]]) -> None:
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{json.dumps(call)}\n".encode())
        os.close(file)


def accepted(log: Path) -> list[list[str]]:
    """Return to whom each call so far was accepted."""
    return [call["accepted"] for call in _calls(log)]


def refused(log: Path) -> list[str]:
    """Return who was refused so far."""
    return [identity for call in _calls(log) for identity in call["refused"]]


def _calls(log: Path) -> list[dict[str, list[str]]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
