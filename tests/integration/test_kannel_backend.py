"""The Kannel backend: what it asks smsbox for, over which connections, and what it refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from rapidsms.router import send

from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.gateways import connections
from rapidsms_db_router.gateways.connections import Connections, ConnectTimeout
from rapidsms_db_router.gateways.kannel import KannelBackend
from rapidsms_db_router.gateways.kannel.signing import is_signed
from rapidsms_db_router.outbound.response import Cause, classify
from tests.integration.stage import statuses

PHONE = "+256772000001"
ENGINE = "rapidsms_db_router.gateways.kannel.KannelBackend"
ACCEPTED = b"HTTP/1.1 202 OK\r\nContent-Length: 2\r\n\r\n0:"


class Server:
    """Answers every request with the same octets, and counts its connections."""

    def __init__(self, answer: bytes = ACCEPTED) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/cgi-bin/sendsms"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End the connections."""
        for client in self.clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the last request; the text as Latin-1."""
        query = urlsplit(self.requests[-1].split()[1]).query
        return {
            name: value
            for name, (value,) in parse_qs(query, encoding="latin-1", strict_parsing=True).items()
        }

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as stream:
            while line := stream.readline():
                self.requests.append(line.decode())
                while stream.readline().strip():
                    pass
                if self.answer:
                    client.sendall(self.answer)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server in place of smsbox."""
    server = Server()
    yield server
    server.close()


def backend(server: Server | None, **options: Any) -> KannelBackend:
    """Return a backend that sends through the server."""
    url = {"sendsms_url": server.url} if server else {}
    return KannelBackend(None, "phones", **url, **options)


# What it asks for


def test_parameters_of_the_project_are_passed_on(server: Server) -> None:
    params = {"username": "r&d", "password": "a b", "from": "+100", "smsc": "one", "priority": 2}
    backend(server, sendsms_params=params).send(1, "text", [PHONE])
    assert server.parameters() == {
        "username": "r&d",
        "password": "a b",
        "from": "+100",
        "smsc": "one",
        "priority": "2",
        "to": PHONE,
        "text": "text",
        "coding": "0",
        "charset": "UTF-8",
    }


def test_a_text_that_gsm_does_not_have_goes_as_ucs2(server: Server) -> None:
    backend(server).send(1, "ж", [PHONE])
    found = server.parameters()
    assert (found["coding"], found["charset"], found["text"]) == ("2", "UTF-16BE", "\x04\x36")


def test_what_no_text_can_have_is_replaced(server: Server) -> None:
    backend(server).send(1, "a\ud800\0", [PHONE])
    assert server.parameters()["text"].encode("latin-1").decode("utf-16-be") == "a\ufffd\ufffd"


@pytest.mark.parametrize("base", ["http://web:8000", "http://web:8000/"])
def test_reports_are_asked_for_and_signed(server: Server, base: str) -> None:
    backend(server, delivery_report_url=base).send(77, "text", [PHONE])
    found = server.parameters()
    assert found["dlr-mask"] == "31"
    # as Kannel fills it in
    url = found["dlr-url"].replace("%%", "\1").replace("%d", "1").replace("\1", "%")
    assert url.startswith("http://web:8000/kannel/report/?")
    asked = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
    assert (asked["message_id"], asked["identity"], asked["status"]) == ("77", PHONE, "1")
    assert is_signed("77", PHONE, asked["signature"])
    assert not is_signed("78", PHONE, asked["signature"])
    assert not is_signed("77", "+256772000002", asked["signature"])


def test_a_project_may_ask_for_fewer_reports(server: Server) -> None:
    options = {"delivery_report_url": "http://web", "sendsms_params": {"dlr-mask": 3}}
    backend(server, **options).send(1, "text", [PHONE])
    assert server.parameters()["dlr-mask"] == "3"


def test_no_url_for_reports_gives_nobody_up(server: Server, settings: Any) -> None:
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    with pytest.raises(Exception, match="kannel-delivery-report") as raised:
        backend(server, delivery_report_url="http://web").send(1, "text", [PHONE])
    assert classify(raised.value) is Cause.OUTAGE
    assert server.requests == []


def test_a_subclass_may_change_the_request(server: Server) -> None:
    class Own(KannelBackend):
        def prepare_request(self, *args: Any) -> dict[str, Any]:
            request: dict[str, Any] = super().prepare_request(*args)
            request["url"] += "?smsc=two"
            request["params"]["binfo"] = "free"
            return request

    Own(None, "phones", sendsms_url=server.url).send(1, "text", [PHONE])
    found = server.parameters()
    assert (found["smsc"], found["binfo"]) == ("two", "free")


# What it refuses


@pytest.mark.parametrize("identity", ["0", "40404", PHONE, "00256772000001", "1" * 20])
def test_a_number_is_sent(server: Server, identity: str) -> None:
    backend(server).send(1, "text", [identity])
    assert server.parameters()["to"] == identity


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "+",
        "MTN",
        "+256 772 000 001",
        "(0772) 000001",
        "0772-000001",
        " 256772000001",
        "256772000001\n",
        "++256772000001",
        "256772000001+",
        "256772000001,256772000002",
        "1" * 21,
        "٢٥٦٧٧٢",
    ],
)
def test_an_identity_that_is_no_number_is_refused(server: Server, identity: str) -> None:
    with pytest.raises(PermanentSendingError, match="no telephone number"):
        backend(server).send(1, "text", [identity])
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("x" * 1530, {}, None),
        ("x" * 1531, {}, 11),
        ("€" * 761, {}, 11),
        ("ж" * 670, {}, None),
        ("ж" * 671, {}, 11),
        ("x" * 160, {"max_parts": 1}, None),
        ("x" * 161, {"max_parts": 1}, 2),
    ],
)
def test_a_text_of_too_many_parts_is_refused(
    server: Server, text: str, options: dict[str, Any], parts: int | None
) -> None:
    if parts is None:
        backend(server, **options).send(1, text, [PHONE])
        assert len(server.requests) == 1
        return
    with pytest.raises(PermanentSendingError, match=f"takes {parts} SMS"):
        backend(server, **options).send(1, text, [PHONE])
    assert server.requests == []


def test_a_call_has_one_recipient_whatever_the_batch_size(
    server: Server, installed_backends: dict[str, Any], people: Any, worker: Any
) -> None:
    installed_backends["phones"] = {
        "ENGINE": ENGINE,
        "sendsms_url": server.url,
        "router.db.batch_size": 50,
    }
    with worker.commit():
        message = send("text", people(3)).database_message
    worker.work()
    assert statuses(message) == "SSS"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [("sendsms_url", "kannel:13013"), ("delivery_report_url", "web"), ("max_parts", 0)],
)
def test_a_wrong_option_is_an_error_at_once(option: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=option):
        backend(None, **{option: value})


# Its connections


def test_a_connection_is_kept_for_the_next_call(server: Server) -> None:
    first, second = backend(server), backend(server)
    for sender in (first, second, first):
        sender.send(1, "text", [PHONE])
    assert (len(server.requests), len(server.clients)) == (3, 1)


def test_as_many_connections_as_calls_at_once(server: Server) -> None:
    server.answer = b""
    threads = [
        threading.Thread(target=backend(server).send, args=(1, "text", [PHONE])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while len(server.requests) < 3:
        threads[0].join(0.01)
    for client in server.clients:
        client.sendall(ACCEPTED)
    for thread in threads:
        thread.join()
    server.answer = ACCEPTED
    backend(server).send(1, "text", [PHONE])
    assert len(server.clients) == 3


@pytest.mark.parametrize("by", ["server", "age", "header"])
def test_a_connection_that_has_ended_is_not_used_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "age":
        monkeypatch.setattr(connections, "LONGEST_IDLE", 0.0)
    if by == "header":
        server.answer = ACCEPTED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for _ in range(2):
        backend(server).send(1, "text", [PHONE])
        if by == "server":
            server.hang_up()
    assert (len(server.requests), len(server.clients)) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 202 OK\r\nContent-Length: 99\r\n\r\n0:", Cause.UNKNOWN),
        (b"nonsense\r\n\r\n", Cause.UNKNOWN),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Cause.OUTAGE),
    ],
)
def test_whatever_is_answered_is_told_apart(server: Server, answer: bytes, cause: Cause) -> None:
    server.answer = answer
    with pytest.raises(Exception) as raised:
        backend(server, **{"router.db.timeout": 0.5}).send(1, "text", [PHONE])
    assert classify(raised.value) is cause


def test_no_answer_within_the_time_out_is_an_unknown_outcome(server: Server) -> None:
    server.answer = b""
    with pytest.raises(TimeoutError) as raised:
        backend(server, **{"router.db.timeout": 0.2}).send(1, "text", [PHONE])
    assert classify(raised.value) is Cause.UNKNOWN


def test_no_connection_is_no_call(server: Server) -> None:
    server.close()
    with pytest.raises(ConnectionRefusedError) as raised:
        backend(server).send(1, "text", [PHONE])
    assert classify(raised.value) is Cause.NOT_CALLED
    assert classify(ConnectTimeout()) is Cause.NOT_CALLED


def test_no_connection_within_the_time_out_is_no_call() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # it takes no other until this is accepted
            there = Connections(f"http://{address[0]}:{address[1]}", 0.1, 1.0)
            with pytest.raises(ConnectTimeout):
                for _ in range(10):
                    there.request("GET", "/")
