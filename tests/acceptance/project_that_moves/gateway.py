"""The gateway of the project, which never answers for some numbers while a file is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.acceptance.project.gateway import GatewayBackend

#: Numbers that begin so.
HANGING = "+4"


class HangingBackend(GatewayBackend):
    """Hangs at some numbers as long as there is a file ``hang`` in its folder."""

    def configure(self, folder: Path, **_: Any) -> None:
        super().configure(folder)
        self.hang = Path(folder) / "hang"

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        while self.hang.exists() and any(each.startswith(HANGING) for each in identities):
            time.sleep(0.1)
        super().send(id_, text, identities, context)
