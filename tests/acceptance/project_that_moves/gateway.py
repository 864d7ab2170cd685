"""The gateway of the project, which never answers for some numbers while a file is there."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.acceptance.project.gateway import GatewayBackend


class HangingBackend(GatewayBackend):
    """Hangs at numbers that begin with what the file ``hang`` in its folder says."""

    def configure(self, folder: Path, **_: Any) -> None:
        super().configure(folder)
        self.hang = Path(folder) / "hang"

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        while self._hangs_at(identities):
            time.sleep(0.1)
        super().send(id_, text, identities, context)

    def _hangs_at(self, identities: list[str]) -> bool:
        with suppress(FileNotFoundError):
            prefix = self.hang.read_text()
            return any(each.startswith(prefix) for each in identities)
        return False
