"""A backend that posts JSON, as many gateways want it."""

from __future__ import annotations

from typing import Any

import requests
from rapidsms.backends.base import BackendBase


class HttpBackend(BackendBase):
    """Posts a message to all of a call, and has what the gateway answers told by ``requests``."""

    def configure(self, url: str, **_: Any) -> None:
        """Take the gateway's address."""
        self.url = url

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        """Post."""
        body = {"id": id_, "text": text, "to": identities}
        requests.post(self.url, json=body, timeout=10).raise_for_status()
