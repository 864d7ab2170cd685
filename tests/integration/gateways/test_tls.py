"""Calls over TLS: certificates are checked, and what breaks after the request is no failed try."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rapidsms_db_router.gateways.connections import Connections
from rapidsms_db_router.outbound.causes import Cause, classify

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody trusts, and its key."""
    path: Path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


class Gateway:
    """Speaks TLS; counts connections and requests, and answers as a test says."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.answer: Callable[[ssl.SSLSocket], None] = lambda tls: tls.sendall(ANSWER)
        self.connections = self.requests = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
            except OSError:  # the test is over
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as tls:
                    self.connections += 1
                    while tls.recv(65_536):
                        self.requests += 1
                        self.answer(tls)
            except OSError:
                continue


@pytest.fixture
def gateway(certificate: Path) -> Iterator[Gateway]:
    found = Gateway(certificate)
    thread = threading.Thread(target=found.serve)
    thread.start()
    yield found
    # accept() does not end by close() alone
    found.listening.shutdown(socket.SHUT_RDWR)
    found.listening.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def connections(
    gateway: Gateway, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connections]:
    """Connections that trust the gateway."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    found = Connections(gateway.url, 10, 10)
    yield found
    found.close()


def raised_by(connections: Connections) -> Exception:
    with pytest.raises(Exception) as caught:
        connections.request("GET", "/")
    return caught.value


def test_a_connection_is_kept(gateway: Gateway, connections: Connections) -> None:
    for _ in range(3):
        assert connections.request("GET", "/").body == b"ok"
    assert (gateway.connections, gateway.requests) == (1, 3)


def test_a_stranger_is_sent_nothing(gateway: Gateway) -> None:
    connections = Connections(gateway.url, 10, 10)
    assert classify(raised_by(connections)) is Cause.NOT_CALLED
    assert gateway.requests == 0


def test_what_is_no_tls_after_the_request_is_an_unknown_outcome(
    gateway: Gateway, connections: Connections
) -> None:
    def break_off(tls: ssl.SSLSocket) -> None:
        os.write(tls.fileno(), b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        tls.shutdown(socket.SHUT_RDWR)

    gateway.answer = break_off
    assert classify(raised_by(connections)) is Cause.UNKNOWN
    assert gateway.requests == 1


def test_a_connection_that_is_cut_after_the_request_is_an_unknown_outcome(
    gateway: Gateway, connections: Connections
) -> None:
    gateway.answer = lambda tls: tls.shutdown(socket.SHUT_RDWR)
    assert classify(raised_by(connections)) is Cause.UNKNOWN
    assert gateway.requests == 1
