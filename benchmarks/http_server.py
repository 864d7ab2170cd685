"""``python -m benchmarks.http_server FILE SECONDS``: a gateway that is asked over HTTP.

It answers each call after so many seconds, keeps connections, and writes down what it was asked.
It prints the port that it listens at. ``/hang`` has it answer nothing from then on; ``/go-on``
ends that, and the connections that wait in vain.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import uvloop

from benchmarks.calls import Call

#: Clients that may wait to be connected.
BACKLOG = 4096
END = b"\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """What all connections have in common."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.seconds = seconds
        self.hangs = False
        self.waiting: set[asyncio.Transport] = set()

    def go_on(self) -> None:
        """Answer again, and close what waits in vain."""
        self.hangs = False
        for transport in self.waiting:
            transport.close()
        self.waiting.clear()


class Connection(asyncio.Protocol):
    """A client's connection, which asks one thing after the other."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.waiting.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.read += data
        while END in self.read:
            head, _, self.read = self.read.partition(END)
            self.asked(head.split(b" ", 2)[1].decode())

    def asked(self, target: str) -> None:
        """Do what is asked for by one request."""
        if target == "/hang":
            self.server.hangs = True
            self.transport.write(ANSWER)
        elif target == "/go-on":
            self.server.go_on()
            self.transport.write(ANSWER)
        elif self.server.hangs:
            self.server.waiting.add(self.transport)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(self.server.seconds, self.answer, target, time.time())

    def answer(self, target: str, start: float) -> None:
        """Write down a call that has taken its time, and answer it."""
        query = parse_qs(urlsplit(target).query)
        identities = query["to"][0].split()
        call = Call(start, time.time(), len(identities), identities[0], query["text"][0])
        os.write(self.server.file, call.line())
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def serve(path: Path, seconds: float, address: str) -> None:
    """Answer until the process is ended."""
    server = Server(path, seconds)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), address, 0, backlog=BACKLOG)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), float(sys.argv[2]), (sys.argv[3:] or ["127.0.0.1"])[0]))
