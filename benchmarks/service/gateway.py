"""Gateways that take everything, and their time: in the process itself, or over HTTP."""

from __future__ import annotations

import os
import random
import time
from functools import cache
from typing import Any

import requests
import urllib3
from rapidsms.backends.base import BackendBase

from benchmarks.calls import Call
from rapidsms_db_router.gateways import HttpBackend

#: Connections that a process keeps to a server; more than it has calls at once.
MOST_KEPT = 500


class Gateway(BackendBase):
    """Takes so many seconds for each call, and writes down the call if it is told where."""

    def configure(
        self, seconds: float = 0, spread: float = 0, log: str | None = None, **_: Any
    ) -> None:
        """Keep the options.

        :param spread: how many seconds a call may take more or less.
        :param log: the path of the calls' file.
        """
        self.seconds = seconds
        self.spread = spread
        self.log = log

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        start = time.time()
        if self.seconds:
            time.sleep(self.seconds + random.uniform(-self.spread, self.spread))
        if self.log:
            call = Call(start, time.time(), len(identities), identities[0], text)
            os.write(opened(self.log), call.line())


@cache
def opened(path: str) -> int:
    """Return a descriptor that writes at the end of a file, whoever else does."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class OverHttp(BackendBase):
    """Asks a server with one plain ``requests.get`` for each call."""

    def configure(self, url: str = "", **_: Any) -> None:
        self.url = url

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        params = {"to": " ".join(identities), "text": text}
        requests.get(self.url, params=params).raise_for_status()


class OverKeptHttp(OverHttp):
    """Asks a server over connections that are kept for the next call."""

    def send(self, id_: int, text: str, identities: list[str], context: Any = None) -> None:
        fields = {"to": " ".join(identities), "text": text}
        answer = KEPT.request("GET", self.url, fields=fields)
        if answer.status != 200:
            raise OSError(f"the server answered {answer.status}")


class Declared(HttpBackend):
    """Asks a server as options say; see the how-to."""

    def configure(self, url: str = "", **_: Any) -> None:
        query = {"to": "{identity}", "text": "{text}"}
        super().configure(url=url, method="GET", query=query)

    @classmethod
    def check_options(cls, name: str, given: Any) -> list[Any]:
        """The benchmarks' own options are none of the backend's."""
        return []


#: No connection is opened before the first call, so that forks share none.
KEPT = urllib3.PoolManager(maxsize=MOST_KEPT, retries=False)
