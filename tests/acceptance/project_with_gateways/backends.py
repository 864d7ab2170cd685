"""Backends that post JSON, as many gateways want it."""

from __future__ import annotations

from typing import Any

import requests
from rapidsms.backends.base import BackendBase


class HttpBackend(BackendBase):
    """Posts a message to all of a call, and has what the gateway answers told by ``requests``."""

    timeout: float | None = 10

    def configure(self, url: str, **_: Any) -> None:
        """Take the gateway's address."""
        self.url = url

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        """Post."""
        body = {"id": id_, "text": text, "to": identities}
        requests.post(self.url, json=body, timeout=self.timeout).raise_for_status()


class PatientHttpBackend(HttpBackend):
    """Waits for an answer for ever, as RapidSMS's own Kannel backend does."""

    timeout = None
