"""A gateway that takes HTTP: a real server, which answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """What a gateway was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return {key: value for key, (value,) in parse_qs(self.body.decode()).items()}

    @property
    def query(self) -> dict[str, str]:
        return {key: value for key, (value,) in parse_qs(urlsplit(self.path).query).items()}


#: From a request: the status, a body (bytes, or what becomes JSON) and headers.
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Gateway:
    """A gateway; ``answer`` may be replaced at any time."""

    answer: Callable[[Request], Answer] = lambda request: (200, {}, {})
    requests: list[Request] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    url: str = ""


@contextmanager
def running() -> Iterator[Gateway]:
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            gateway.requests.append(request)
            gateway.connections.add(self.client_address)
            status, said, more = gateway.answer(request)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _take

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
