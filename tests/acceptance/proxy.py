"""A proxy whose connections die without a word, as through a firewall that has forgotten them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards to a server on this machine, in threads.

    :param port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._to = "127.0.0.1", port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        #: How many connections were taken while nothing was forwarded.
        self.in_vain = 0
        self._dead = threading.Event()
        self._open: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        """Forward nothing more: neither for those who are connected, nor for those who come."""
        self._dead.set()

    def revive(self) -> None:
        """Forward for those who come from now on."""
        self._dead = threading.Event()

    def close(self) -> None:
        """Close everything."""
        self._dead.set()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._open.append(client)
                if self._dead.is_set():
                    self.in_vain += 1
                    continue
                server = socket.create_connection(self._to)
                self._open.append(server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward, args=[*ends, self._dead], daemon=True
                    ).start()

    def _forward(self, source: socket.socket, to: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if dead.is_set():
                    return
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
