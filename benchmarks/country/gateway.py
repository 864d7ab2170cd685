"""``python -m benchmarks.country.gateway CALLS REPORTS URL EVERY SIZE``: a gateway that reports.

It answers each call after 50 milliseconds with an id, and writes down the call. Some seconds later
it posts a delivery report of one SMS in EVERY to the URL, over kept connections, up to SIZE reports
with a post. A post that is not answered with 200 is made again. It prints the port that it listens
at. ``/left`` tells how many reports it has yet to post.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

import uvloop

from benchmarks import http_server
from benchmarks.calls import Call

#: How long a call takes, in seconds.
SECONDS = 0.05
#: How soon a report follows, in seconds; one overtakes no other.
LATER = 3
#: Connections for reports.
POSTERS = 4
#: How long to wait before something is tried again, in seconds.
INTERVAL = 0.05

ANSWER = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
POST = (
    "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
)


class Server(http_server.Server):
    """The gateway.

    :param calls: the path of the calls' file.
    :param every: how many SMS there are for each that it reports.
    :param reports: the path of the file of posts: when the oldest report of a post was due, when
        the post was answered, and how many reports it had.
    """

    def __init__(self, calls: Path, reports: Path, every: int) -> None:
        super().__init__(calls, SECONDS)
        self.every = every
        self.reports = os.open(reports, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        # the old rows have other ids
        self.ids = itertools.count(1)
        #: When a report is due, and the id it names.
        self.due: deque[tuple[float, str]] = deque()
        self.posting = 0

    def take(self, size: int) -> list[tuple[float, str]]:
        """Return up to so many reports that are due."""
        moment, taken = time.time(), []
        while self.due and len(taken) < size and self.due[0][0] <= moment:
            taken.append(self.due.popleft())
        return taken

    async def keep_posting(self, url: str, size: int) -> None:
        """Post reports for ever, over one connection after the other."""
        where = urlsplit(url)
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                stream = await asyncio.open_connection(where.hostname, where.port)
                while await self.post(where, self.take(size), *stream):
                    pass
            await asyncio.sleep(INTERVAL)

    async def post(
        self,
        where: SplitResult,
        reports: list[tuple[float, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Post some reports; return whether they were taken, and the connection can be kept."""
        if not reports:
            await asyncio.sleep(INTERVAL)
            return True
        results = [{"id": id_, "status": "DELIVERED"} for _, id_ in reports]
        body, taken = json.dumps({"results": results}), False
        self.posting += len(reports)
        try:
            writer.write(POST.format(where.path, where.netloc, len(body), body).encode())
            head = await reader.readuntil(http_server.END)
            taken = head.startswith(b"HTTP/1.1 200 ")
        finally:
            self.posting -= len(reports)
            if not taken:
                writer.close()
                self.due.extendleft(reversed(reports))
        if taken:
            os.write(self.reports, Call(reports[0][0], time.time(), len(reports), "", "").line())
        return taken


class Connection(http_server.Connection):
    """A worker's connection."""

    server: Server

    def asked(self, target: str) -> None:
        if target == "/left":
            self.say(str(len(self.server.due) + self.server.posting))
        else:
            super().asked(target)

    def answer(self, target: str, start: float) -> None:
        """Write down a call, answer it with an id, and have a report follow."""
        server, query = self.server, parse_qs(urlsplit(target).query)
        moment, id_ = time.time(), next(server.ids)
        call = Call(start, moment, 1, query["to"][0].strip(), query["text"][0])
        os.write(server.file, call.line())
        if id_ % server.every == 0:
            server.due.append((moment + LATER, str(id_)))
        self.say(json.dumps({"id": str(id_)}))

    def say(self, body: str) -> None:
        """Answer, if anybody listens."""
        if not self.transport.is_closing():
            self.transport.write(ANSWER.format(len(body), body).encode())


async def serve(calls: Path, reports: Path, url: str, every: int, size: int) -> None:
    """Answer and report until the process is ended."""
    server = Server(calls, reports, every)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Connection(server), "127.0.0.1", 0, backlog=http_server.BACKLOG
    )
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(*(server.keep_posting(url, size) for _ in range(POSTERS)))


if __name__ == "__main__":
    files, numbers = map(Path, sys.argv[1:3]), map(int, sys.argv[4:])
    uvloop.run(serve(*files, sys.argv[3], *numbers))
