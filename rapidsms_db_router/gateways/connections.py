"""HTTP connections to one server that are kept from call to call, whichever thread calls."""

from __future__ import annotations

import atexit
import os
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from email.message import Message
from functools import cache
from http.client import HTTPConnection, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from rapidsms_db_router.errors import OutcomeUnknown

#: A connection that was not used for this many seconds is not used again. Kannel closes one after
#: 60 seconds, and nobody could know what became of a request that was written in that moment.
LONGEST_IDLE = 20.0


class ConnectTimeout(TimeoutError):
    """No connection within the time-out: no request was written."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    #: The headers; their names are looked up in upper or lower case.
    headers: Message
    body: bytes


class Connections:
    """Connections to the server of a URL: as many as there are calls at once.

    :param url: begins with ``http://`` or ``https://``.
    :param connect: how many seconds it may take to connect.
    :param read: how many seconds may pass without a part of the answer.
    """

    def __init__(self, url: str, connect: float, read: float) -> None:
        parts = urlsplit(url)
        self._tls = None
        if parts.scheme == "https":
            # one for all: to read the certificates of the machine takes longer than many calls
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        self._address = parts.hostname or "", parts.port
        self._timeouts = connect, read
        #: Each with the moment at which it was used last; the newest is at the right.
        self._kept: deque[tuple[HTTPConnection, float]] = deque()
        #: A process that was forked uses no connection of its parent's.
        self._pid = os.getpid()
        atexit.register(self.close)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for a path with its query; no redirection is followed.

        :raises OSError: or ``http.client.HTTPException``, if there is no answer.
        :raises OutcomeUnknown: for errors that elsewhere mean that there was no connection.
        """
        connection = self._take()
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException as exc:
            connection.close()
            if isinstance(exc, OSError) and not isinstance(exc, (TimeoutError, ConnectionError)):
                # TLS that broke, or a way that ended, after the request may have been written
                raise OutcomeUnknown(f"The connection ended: {type(exc).__name__}.") from exc
            raise
        if connection.sock is not None:  # else the server has said that it closes
            self._keep(connection)
        return answer

    def close(self) -> None:
        """Close the connections that are kept."""
        with suppress(IndexError):
            while True:
                self._kept.pop()[0].close()

    def _take(self) -> HTTPConnection:
        if self._pid != os.getpid():
            self._kept.clear()
            self._pid = os.getpid()
        while self._kept:
            try:
                connection, used = self._kept.pop()
            except IndexError:  # another thread has it
                break
            if time.monotonic() - used < LONGEST_IDLE and _is_open(connection, self._timeouts[1]):
                return connection
            connection.close()
        return self._open()

    def _open(self) -> HTTPConnection:
        connect, read = self._timeouts
        connection = (
            HTTPConnection(*self._address, timeout=connect)
            if self._tls is None
            else HTTPSConnection(*self._address, timeout=connect, context=self._tls)
        )
        try:
            connection.connect()
        except TimeoutError as exc:
            raise ConnectTimeout(f"no connection within {connect:g} s") from exc
        connection.sock.settimeout(read)
        return connection

    def _keep(self, connection: HTTPConnection) -> None:
        now = time.monotonic()
        self._kept.append((connection, now))
        with suppress(IndexError):
            if now - self._kept[0][1] > LONGEST_IDLE:
                self._kept.popleft()[0].close()


def _is_open(connection: HTTPConnection, timeout: float) -> bool:
    """Return whether the server has neither closed a connection nor said more than it should."""
    connection.sock.settimeout(0)
    try:
        connection.sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        connection.sock.settimeout(timeout)
        return True
    except OSError:
        return False
    return False


#: The connections to one server, shared by all backends that have the same time-outs.
connections_to = cache(Connections)
