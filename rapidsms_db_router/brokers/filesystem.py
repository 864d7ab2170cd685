"""Celery's file-system broker, for demos and other small set-ups on one machine.

``CELERY_BROKER_TRANSPORT = "rapidsms_db_router.brokers.filesystem.Transport"``, with a
``CELERY_BROKER_URL`` of ``"filesystem://"``.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Publishes a task's file only when it is whole, and for the user of this process alone.

    kombu's own creates the file under its final name and then writes to it: a worker that looks
    in between reads an empty file, and ends with a ``JSONDecodeError``.
    """

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        name = f"{time.time_ns()}_{uuid.uuid4()}.{queue}.msg"
        unfinished = Path(self.data_folder_out, f"{name}.unfinished")
        unfinished.touch(mode=0o600, exist_ok=False)
        unfinished.write_text(dumps(payload))
        unfinished.rename(unfinished.with_name(name))

    def _queue_bind(self, exchange: str, *args: Any) -> None:
        self.control_folder.mkdir(mode=0o700, exist_ok=True)
        super()._queue_bind(exchange, *args)
        with suppress(OSError):  # another user's
            self._exchange_file(exchange).chmod(0o600)


class Transport(filesystem.Transport):
    """The value of ``CELERY_BROKER_TRANSPORT``."""

    Channel = Channel
