"""An app that writes to the database, and a gateway whose memory outlives the process."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import Error
from rapidsms.apps.base import AppBase
from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError
from rapidsms.models import Contact

from rapidsms_db_router import reports
from rapidsms_db_router.errors import PermanentSendingError
from tests.faults.crashing import ACCEPTED, CALLING, crash_point


class Register(AppBase):
    """Registers each person that writes, each time, and answers twice."""

    def handle(self, msg: Any) -> bool:
        """Write a row of its own, then answer."""
        Contact.objects.create(name=msg.text)
        msg.respond(f"welcome {msg.text}")
        msg.respond(f"your number is {msg.text}")
        return True


class Gateway(BackendBase):
    """Appends what it accepts to a file, one line a call."""

    #: The identity that is refused the first time, and those that are refused for good.
    refuses = ""
    refuses_for_good: tuple[str, ...] = ()
    #: So many calls find no gateway, before all others are accepted.
    outages = 0
    #: So many calls are accepted without an answer that says so.
    answers_lost = 0
    #: Whether it returns ids of its own; whether it reports by them before it has returned them.
    names = reports_early = False

    def configure(self, log: Path, **_: Any) -> None:
        """Take the file's path."""
        self.log = log

    def send(
        self, id_: Any, text: str, identities: list[str], context: Any = None
    ) -> dict[str, str] | None:
        """Write down who gets the message, and name who does not."""
        crash_point(CALLING)
        calls = _calls(self.log)
        if len(calls) < self.outages:
            self._write(id_, [], identities)
            raise ConnectionRefusedError("out of order")
        failed = [i for i in identities if i == self.refuses and i not in refused(self.log)]
        failed += [i for i in identities if i in self.refuses_for_good]
        self._write(id_, [i for i in identities if i not in failed], failed)
        if self.reports_early:
            for identity in identities:
                with suppress(Error):  # it is posted again
                    reports.record("delivered", external_id=f"{id_} to {identity}")
        crash_point(ACCEPTED)
        if len(calls) < self.answers_lost:
            raise TimeoutError("no answer")
        if set(self.refuses_for_good) & set(failed):
            raise PermanentSendingError("refused", failed_identities=failed)
        if failed:
            raise MessageSendingError("refused", failed_identities=failed)
        return {identity: f"{id_} to {identity}" for identity in identities} if self.names else None

    def _write(self, id_: int, accepted: list[str], refused: list[str]) -> None:
        call = {"accepted": [(id_, identity) for identity in accepted], "refused": refused}
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{json.dumps(call)}\n".encode())
        os.close(file)


def accepted(log: Path) -> list[tuple[int, str]]:
    """Return what was accepted so far: each time the message's id and the recipient's identity."""
    return [(id_, identity) for call in _calls(log) for id_, identity in call["accepted"]]


def refused(log: Path) -> list[str]:
    """Return the identities that were refused so far."""
    return [identity for call in _calls(log) for identity in call["refused"]]


def _calls(log: Path) -> list[dict[str, list[Any]]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
