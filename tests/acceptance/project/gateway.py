"""A gateway that writes down every number it is given, and refuses some of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError

#: Numbers that begin so are refused the first time a message is sent to them.
REFUSED_ONCE = "+2"
#: Numbers that begin so are refused whenever a message is sent to them.
REFUSED_ALWAYS = "+3"


class Record(NamedTuple):
    """One number that the gateway was given."""

    message_id: int
    identity: str
    text: str
    accepted: bool


class Gateway:
    """What the gateway keeps in a folder; worker processes and the test share it."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "gateway.jsonl"

    def take(self, message_id: int, identities: list[str], text: str) -> list[str]:
        """Write down some numbers, and return those that are refused."""
        known = set()
        # the whole log: only for those of whom it has something to tell
        if any(identity.startswith(REFUSED_ONCE) for identity in identities):
            known = {(record.message_id, record.identity) for record in self.records()}
        records = []
        for identity in identities:
            refused = identity.startswith(REFUSED_ALWAYS) or (
                identity.startswith(REFUSED_ONCE) and (message_id, identity) not in known
            )
            records.append(Record(message_id, identity, text, not refused))
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        # one write at the end of the file: so processes do not write into each other's lines
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)
        return [record.identity for record in records if not record.accepted]

    def records(self) -> list[Record]:
        """Return all that was written down, in that order."""
        if not self.log.exists():
            return []
        return [Record(*json.loads(line)) for line in self.log.read_text().splitlines()]


class GatewayBackend(BackendBase):
    """Sends through the gateway, and says which numbers it refused."""

    def configure(self, folder: Path, **_: Any) -> None:
        self.gateway = Gateway(folder)

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        refused = self.gateway.take(id_, identities, text)
        if refused:
            raise MessageSendingError("The gateway refused.", failed_identities=refused)
