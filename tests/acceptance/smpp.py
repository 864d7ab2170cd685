"""A message centre that speaks SMPP 3.4, and shows what phones get: octets and their coding."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

GENERIC_NACK, SUBMIT_SM, DELIVER_SM, UNBIND, ENQUIRE_LINK = 0x80000000, 4, 5, 6, 0x15
#: Receiver, transmitter, transceiver.
BINDS = {1, 2, 9}
RESPONSE = 0x80000000
OK, INVALID_COMMAND, REJECTED = 0, 3, 0x45
#: Of ``esm_class``: the message begins with a header; it is a delivery receipt.
HAS_HEADER, IS_RECEIPT = 0x40, 0x04
#: Of ``data_coding``.
GSM, UCS2 = 0, 8


class Part(NamedTuple):
    """One SMS as it was submitted."""

    id: str
    source: str
    destination: str
    data_coding: int
    #: The header that says to which message it belongs; empty if it is a message of its own.
    header: bytes
    octets: bytes
    #: Whether a receipt was asked for.
    wants_receipt: bool

    @property
    def number(self) -> int:
        """Which part of its message it is."""
        return self.header[5] if self.header else 1


class MessageCentre:
    """Accepts one bearerbox at a time, in threads of its own."""

    def __init__(self) -> None:
        #: All that was submitted and not refused, in order.
        self.parts: list[Part] = []
        #: Says with which status a part is answered.
        self.answer: Callable[[Part], int] = lambda part: OK
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._is_away = False
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._ids = itertools.count(1000)
        self._references = itertools.count(1)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and end the connection."""
        # a thread that accepts keeps the socket alive until it is shut down
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_away()

    def go_away(self) -> None:
        """End the connection, and take none."""
        self._is_away = True
        if self._client is not None:
            with suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Take connections again."""
        self._is_away = False

    def received(self) -> list[tuple[str, int, bytes]]:
        """Return what phones got whole: number, coding and octets of each message."""
        of_message: dict[tuple[str, bytes], dict[int, Part]] = defaultdict(dict)
        order = itertools.count()
        for part in list(self.parts):
            # reference and number of parts
            key = part.header[3:5] if part.header else str(next(order)).encode()
            of_message[part.destination, key][part.number] = part
        found = []
        for parts in of_message.values():
            first = next(iter(parts.values()))
            if len(parts) == (first.header[4] if first.header else 1):
                octets = b"".join(parts[number].octets for number in sorted(parts))
                found.append((first.destination, first.data_coding, octets))
        return found

    def text(self, phone: str, destination: str, coding: int, *parts: bytes) -> None:
        """Have a phone text: the octets of each part."""
        reference = next(self._references) & 0xFF
        for number, octets in enumerate(parts, 1):
            header = bytes((5, 0, 3, reference, len(parts), number)) if len(parts) > 1 else b""
            flags = HAS_HEADER if header else 0
            self._deliver(phone, destination, flags, coding, header + octets)

    def report(self, part: Part, status: str = "DELIVRD") -> None:
        """Send the receipt of a part."""
        words = (
            f"id:{part.id} sub:001 dlvrd:001 submit date:2611240000 done date:2611240001"
            f" stat:{status} err:000 text:"
        )
        self._deliver(part.destination, part.source, IS_RECEIPT, GSM, words.encode())

    def _deliver(
        self, source: str, destination: str, flags: int, coding: int, octets: bytes
    ) -> None:
        def address(number: str) -> bytes:
            # type of number 1 is international
            return bytes((1 if number.startswith("+") else 0, 1)) + _string(number.lstrip("+"))

        body = b"\0" + address(source) + address(destination)
        body += bytes((flags, 0, 0)) + b"\0\0" + bytes((0, 0, coding, 0, len(octets))) + octets
        self._send(DELIVER_SM, OK, next(self._numbers), body)

    def _accept(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), self._client:
                if not self._is_away:
                    self._serve(self._client)

    def _serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while len(head := stream.read(16)) == 16:
            length, command, _, number = struct.unpack(">IIII", head)
            body = stream.read(length - 16)
            if command in BINDS:
                self._send(command | RESPONSE, OK, number, b"centre\0")
            elif command == SUBMIT_SM:
                self._submit(number, body)
            elif command in (ENQUIRE_LINK, UNBIND):
                self._send(command | RESPONSE, OK, number)
                if command == UNBIND:
                    return
            elif not command & RESPONSE:
                self._send(GENERIC_NACK, INVALID_COMMAND, number)

    def _submit(self, number: int, body: bytes) -> None:
        _, _, rest = body.partition(b"\0")
        source, _, rest = rest[2:].partition(b"\0")
        destination, _, rest = rest.partition(b"\0")
        kind, destination = destination[0], destination[2:]
        flags, rest = rest[0], rest[3:]
        _, _, rest = rest.partition(b"\0")
        _, _, rest = rest.partition(b"\0")
        receipt, _, coding, _, size = rest[:5]
        octets = rest[5 : 5 + size]
        header = octets[: octets[0] + 1] if flags & HAS_HEADER else b""
        part = Part(
            str(next(self._ids)),
            source.decode(),
            ("+" if kind == 1 else "") + destination.decode(),
            coding,
            header,
            octets[len(header) :],
            bool(receipt & 1),
        )
        status = self.answer(part)
        if status == OK:
            self.parts.append(part)
            self._send(SUBMIT_SM | RESPONSE, OK, number, _string(part.id))
        else:
            self._send(SUBMIT_SM | RESPONSE, status, number)

    def _send(self, command: int, status: int, number: int, body: bytes = b"") -> None:
        assert self._client is not None
        pdu = struct.pack(">IIII", 16 + len(body), command, status, number) + body
        with self._sending:
            self._client.sendall(pdu)


def _string(text: str) -> bytes:
    return text.encode() + b"\0"
