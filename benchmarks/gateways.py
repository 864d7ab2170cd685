"""Gateways that are processes of their own."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.setups import Setup, one_sms_a_call
from benchmarks.sides import Side
from tests.acceptance.running import Process, wait_for


class HttpServer:
    """A gateway over HTTP.

    :param side: whose calls it writes down.
    :param seconds: how long each call takes.
    :param address: where it listens.
    """

    def __init__(self, side: Side, seconds: float, address: str = "127.0.0.1") -> None:
        module = [sys.executable, "-m", "benchmarks.http_server"]
        command = [*module, str(side.calls.path), str(seconds), address]
        log = side.folder / "http_server.log"
        self.process = Process(command, dict(os.environ), log)
        port = wait_for("the HTTP server", lambda: self.process.runs() and self.process.output())
        self.url = f"http://{address}:{int(port)}/"

    def tell(self, what: str) -> None:
        """Have it ``hang`` or ``go-on``."""
        with urllib.request.urlopen(self.url + what, timeout=10):
            pass


@contextmanager
def http_server(side: Side, seconds: float, address: str = "127.0.0.1") -> Iterator[HttpServer]:
    """Run a gateway over HTTP while the body runs."""
    server = HttpServer(side, seconds, address)
    try:
        yield server
    finally:
        server.process.kill()


@contextmanager
def http_gateway(
    side: Side,
    engine: str,
    seconds: float,
    options: Mapping[str, Any],
    address: str = "127.0.0.1",
    **of: Any,
) -> Iterator[Setup]:
    """Run a gateway over HTTP; yield the setup of a project that has it, one SMS a call."""
    with http_server(side, seconds, address) as server:
        backend = {"ENGINE": f"benchmarks.service.gateway.{engine}", "url": server.url}
        yield one_sms_a_call(written=False, more={**backend, **options}, **of)
