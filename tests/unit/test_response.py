"""What a backend's response says of each recipient, and what the gateway has to do with it."""

from __future__ import annotations

import errno
import gc
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import repeat

import pytest
import requests
import urllib3
from rapidsms.errors import MessageSendingError

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.errors import (
    BackendNotConfigured,
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
)
from rapidsms_db_router.limits.circuit import Outage
from rapidsms_db_router.outbound import causes
from rapidsms_db_router.outbound.causes import Cause
from rapidsms_db_router.outbound.response import SendResponse, read

# clients leave sockets to the garbage collector when they raise
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

ROWS = [Recipient(pk, 10 + pk, f"+{pk}", 1) for pk in (1, 2, 3)]
#: The time-out of requests to a server that never answers, in seconds.
SHORT = 0.2


def http_error(status, **headers):
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update(headers)
    return requests.HTTPError(f"{status}", response=answer)


def urllib_error(status, **headers):
    return urllib.error.HTTPError("http://gateway", status, "no", headers, None)


def raised_by(function: Callable[[], object]) -> Exception:
    """Return what a function raises."""
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def passed_on(error):
    """Return an exception as the router passes it on."""
    return raised_by(lambda: _raise(MessageSendingError("raised"), error))


def _raise(error, cause=None):
    raise error from cause


# Gateways in this process, and the ways of calling them


@pytest.fixture(autouse=True, scope="module")
def _no_socket_is_left() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], str]]:
    """A function that starts a server; it answers each request with these bytes and hangs up.

    ``None``: it never answers.
    """
    over = threading.Event()
    sockets, threads = [], []

    def serve(listening, answer):
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            sockets.append(connection)
            with suppress(OSError):
                connection.recv(65536)
                if answer is None:
                    over.wait(30)
                else:
                    connection.sendall(answer)
            connection.close()

    def start(answer):
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)
        threads.append(threading.Thread(target=serve, args=(listening, answer), daemon=True))
        threads[-1].start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    yield start
    over.set()
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(30)
    for each in sockets:
        each.close()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a port on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def with_requests(url):
    requests.post(url, data=b"to=1", timeout=SHORT).raise_for_status()


def with_session(url):
    with requests.Session() as session:
        session.get(url, timeout=SHORT).raise_for_status()


def with_urllib(url):
    with urllib.request.urlopen(url, b"to=1", timeout=SHORT) as answer:
        answer.read()


def with_urllib3(url):
    with urllib3.PoolManager() as pool:
        pool.request("POST", url, body=b"to=1", timeout=SHORT)


def with_urllib3_once(url):
    with urllib3.PoolManager() as pool:
        pool.request("POST", url, body=b"to=1", timeout=SHORT, retries=False)


def with_http_client(url):
    client = HTTPConnection(url.partition("//")[2].strip("/"), timeout=SHORT)
    try:
        client.request("POST", "/", b"to=1")
        client.getresponse().read()
    finally:
        client.close()


TLS_CLIENTS = [with_requests, with_session, with_urllib, with_urllib3, with_urllib3_once]
CLIENTS = [*TLS_CLIENTS, with_http_client]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


def assert_cause(error, cause):
    """See that an exception is told from others, alone and as others pass it on."""
    assert causes.classify(error) is cause
    for raised in (error, passed_on(error), passed_on(passed_on(error))):
        said = read(ROWS, None, raised)
        assert [failure.cause for failure in said.failed] == [cause] * 3, raised
        assert said.cause is cause
        assert (said.sent, said.is_whole) == ([], True)


# Not called


@every_client
def test_a_closed_port_was_not_called(client, closed_port):
    assert_cause(raised_by(lambda: client(f"http://{closed_port}/")), Cause.NOT_CALLED)


@every_client
def test_a_host_that_does_not_exist_was_not_called(client):
    assert_cause(raised_by(lambda: client("http://no-such-host.invalid/")), Cause.NOT_CALLED)


@pytest.mark.parametrize("client", TLS_CLIENTS, ids=lambda client: client.__name__)
def test_a_port_without_tls_was_not_called(client, server):
    plain = server(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert_cause(raised_by(lambda: client(f"https://{plain}/")), Cause.NOT_CALLED)


@pytest.mark.parametrize("url", ["gateway/send", "ftp://gateway/send", "http://", "http://[/"])
def test_what_is_no_url_of_a_gateway_was_not_called(url):
    assert_cause(raised_by(lambda: with_requests(url)), Cause.NOT_CALLED)


def of_library(*names):
    """Return an exception of a library that is not installed here; its class is last."""
    bases: tuple[type, ...] = (Exception,)
    for name in names:
        bases = (type(name, bases, {}),)
    return bases[0]("no")


POOL = urllib3.HTTPConnectionPool("gateway")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        OSError(errno.ENETUNREACH, "no network"),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError(errno.EMFILE, "too many open files"),
        socket.gaierror(socket.EAI_NONAME, "no name"),
        urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        requests.ConnectTimeout(
            urllib3.exceptions.MaxRetryError(
                POOL, "/", urllib3.exceptions.ConnectTimeoutError("no connection")
            )
        ),
        # of httpx
        of_library("HTTPError", "TransportError", "NetworkError", "ConnectError"),
        of_library("HTTPError", "TransportError", "TimeoutException", "ConnectTimeout"),
        of_library("HTTPError", "TransportError", "TimeoutException", "PoolTimeout"),
    ],
    ids=repr,
)
def test_a_gateway_that_was_not_reached_was_not_called(error):
    assert_cause(error, Cause.NOT_CALLED)


# Outages


@pytest.mark.parametrize("status", [408, 429, 500, 501, 503, 505, 507, 599])
@pytest.mark.parametrize("error_of", [http_error, urllib_error])
def test_a_gateway_that_says_it_is_out_of_order_is(status, error_of):
    assert_cause(error_of(status), Cause.OUTAGE)


@pytest.mark.parametrize("client", [with_requests, with_session, with_urllib])
def test_a_server_that_is_out_of_order_is_an_outage(client, server):
    address = server(b"HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n")
    error = raised_by(lambda: client(f"http://{address}/"))
    assert_cause(error, Cause.OUTAGE)
    assert read(ROWS, None, passed_on(error)).retry_after == 77


def test_a_backend_may_ask_for_time():
    assert_cause(RetryLater("busy"), Cause.OUTAGE)
    assert_cause(type("Busy", (RetryLater,), {})("busy"), Cause.OUTAGE)


class OfLibrary(Exception):
    """Has a status as some libraries give it to their exceptions."""

    def __init__(self, **said):
        super().__init__("no")
        vars(self).update(said)


@pytest.mark.parametrize("name", ["status", "status_code", "code"])
def test_other_libraries_say_the_status_in_other_ways(name):
    for status, cause in ((503, Cause.OUTAGE), (401, Cause.ACCOUNT), (400, Cause.PERMANENT)):
        assert_cause(OfLibrary(**{name: status}), cause)
        assert_cause(OfLibrary(**{name: str(status)}), cause)
        assert_cause(OfLibrary(**{name: HTTPStatus(status)}), cause)


def test_a_status_comes_before_a_code_of_the_gateway():
    # as Twilio's exceptions have them
    assert_cause(OfLibrary(status=400, code=21211), Cause.PERMANENT)
    assert_cause(OfLibrary(status=429, code=20429), Cause.OUTAGE)
    assert_cause(OfLibrary(status=401, code=20003), Cause.ACCOUNT)
    assert_cause(OfLibrary(code=21211), Cause.RECIPIENT)
    assert_cause(OfLibrary(response=OfLibrary(status=503)), Cause.OUTAGE)


@pytest.mark.parametrize(
    "code", [True, None, 0, 17, 200, 302, 399, 600, 10**20, 503.0, "503 Busy", "5030", "", b"503"]
)
def test_what_is_no_status_of_an_error_says_nothing(code):
    assert_cause(OfLibrary(code=code), Cause.RECIPIENT)


@pytest.mark.parametrize(
    ("error", "may_be"),
    [
        (http_error(500), True),
        (http_error(503), False),
        (http_error(503, **{"Retry-After": "1"}), True),
        (http_error(429, **{"Retry-After": "1"}), False),
        (RetryLater("busy", 1), False),
        (raised_by(lambda: _raise(RetryLater("busy"), http_error(500))), False),
        (ConnectionRefusedError("no"), False),
    ],
    ids=repr,
)
def test_an_outage_may_be_about_a_recipient_that_meets_it_again(error, may_be):
    assert causes.may_be_recipients(error) is may_be


# Account or URL, permanent


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 407, 410])
@pytest.mark.parametrize("error_of", [http_error, urllib_error])
def test_what_concerns_the_account_is_told_from_a_recipient(status, error_of):
    assert_cause(error_of(status), Cause.ACCOUNT)


@pytest.mark.parametrize(
    "error",
    [
        PermanentSendingError("barred"),
        BackendNotConfigured("no backend"),
        *(http_error(status) for status in (400, 406, 409, 413, 414, 415, 422, 451, 499)),
        urllib_error(400),
    ],
    ids=repr,
)
def test_what_is_permanent(error):
    assert_cause(error, Cause.PERMANENT)
    assert all(failure.is_permanent for failure in read(ROWS, None, error).failed)


@pytest.mark.parametrize(
    ("ours", "cause"),
    [
        (PermanentSendingError("barred"), Cause.PERMANENT),
        (RetryLater("busy", 300), Cause.OUTAGE),
        (OutcomeUnknown("lost"), Cause.UNKNOWN),
    ],
    ids=repr,
)
@pytest.mark.parametrize("reason", [http_error(503), http_error(400), KeyError("id")], ids=repr)
def test_an_exception_of_ours_counts_whatever_it_was_raised_from(ours, cause, reason):
    error = raised_by(lambda: _raise(ours, reason))
    assert_cause(error, cause)
    expected = 300 if ours.args == ("busy",) else None
    assert read(ROWS, None, error).retry_after == expected


def test_an_exception_of_a_backend_is_as_what_it_was_raised_from():
    error = raised_by(lambda: _raise(KeyError("no"), http_error(503, **{"Retry-After": "60"})))
    assert_cause(error, Cause.OUTAGE)
    assert read(ROWS, None, error).retry_after == 60
    error = raised_by(lambda: _raise(KeyError("no"), requests.ReadTimeout("no")))
    assert_cause(error, Cause.UNKNOWN)


# Outcome unknown


@every_client
def test_a_connection_that_is_cut_after_the_request_leaves_the_outcome_unknown(client, server):
    address = server(b"")
    assert_cause(raised_by(lambda: client(f"http://{address}/")), Cause.UNKNOWN)


@every_client
def test_a_server_that_never_answers_leaves_the_outcome_unknown(client, server):
    address = server(None)
    assert_cause(raised_by(lambda: client(f"http://{address}/")), Cause.UNKNOWN)


@every_client
def test_an_answer_that_is_no_http_leaves_the_outcome_unknown(client, server):
    address = server(b"220 mail.example.com ESMTP\r\n")
    assert_cause(raised_by(lambda: client(f"http://{address}/")), Cause.UNKNOWN)


@every_client
def test_an_answer_that_is_cut_leaves_the_outcome_unknown(client, server):
    address = server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of")
    assert_cause(raised_by(lambda: client(f"http://{address}/")), Cause.UNKNOWN)


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"ids": ['])
def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown(server, body):
    address = server(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = requests.get(f"http://{address}/", timeout=5)
    assert_cause(raised_by(answer.json), Cause.UNKNOWN)
    assert_cause(raised_by(lambda: json.loads(answer.text)), Cause.UNKNOWN)


@pytest.mark.parametrize(
    "error",
    [
        OutcomeUnknown("no answer"),
        ConnectionError("no way to tell"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        BrokenPipeError(errno.EPIPE, "broken"),
        TimeoutError("timed out"),
        http_error(502),
        http_error(504),
        urllib_error(502),
        # of httpx
        of_library("HTTPError", "TransportError", "TimeoutException", "ReadTimeout"),
        of_library("HTTPError", "TransportError", "TimeoutException", "WriteTimeout"),
        of_library("HTTPError", "TransportError", "NetworkError", "ReadError"),
        of_library("HTTPError", "TransportError", "ProtocolError", "RemoteProtocolError"),
    ],
    ids=repr,
)
def test_what_may_have_happened_after_the_request_leaves_the_outcome_unknown(error):
    assert_cause(error, Cause.UNKNOWN)


@pytest.mark.parametrize("first", ["refused", "lost"])
def test_of_two_gateways_that_were_tried_the_one_that_may_have_it_counts(
    first, closed_port, server
):
    lost = server(b"")
    addresses = [closed_port, lost] if first == "refused" else [lost, closed_port]

    def with_a_second_gateway():
        try:
            with_requests(f"http://{addresses[0]}/")
        except requests.RequestException:
            with_requests(f"http://{addresses[1]}/")

    assert_cause(raised_by(with_a_second_gateway), Cause.UNKNOWN)


# The recipient


@pytest.mark.parametrize(
    "error",
    [
        MessageSendingError("no"),
        KeyError("refused"),
        ValueError("no number"),
        OSError("no reason"),
        FileNotFoundError(errno.ENOENT, "no file"),
        requests.RequestException("no"),
        http_error(302),
        UnicodeEncodeError("ascii", "é", 0, 1, "no"),
    ],
    ids=repr,
)
def test_any_other_exception_concerns_the_recipient(error):
    assert_cause(error, Cause.RECIPIENT)


# Who was sent the message


def said(returned=None, raised=None, rows=ROWS):
    """Return the primary keys of those that were sent it, that failed, and that failed for good."""
    answer = read(rows, returned, raised)
    return (
        [row.id for row in answer.sent],
        [failure.row.id for failure in answer.failed if not failure.is_permanent],
        [failure.row.id for failure in answer.failed if failure.is_permanent],
    )


@pytest.mark.parametrize("returned", [None, True, {}])
def test_a_backend_that_raises_nothing_has_sent_to_all(returned):
    assert said(returned) == ([1, 2, 3], [], [])
    assert read(ROWS, returned, None).external_ids == {}


def test_ids_are_kept_by_primary_key():
    answer = read(ROWS, {"+1": "a", "+2": 17, "+3": None}, None)
    assert answer.external_ids == {1: "a", 2: "17"}
    assert len(answer.sent) == 3


def test_an_exception_beside_an_identity_is_about_that_one():
    returned = {"+1": "a", "+2": PermanentSendingError("no such number"), "+3": OSError("busy")}
    assert said(returned) == ([1], [3], [2])
    assert not read(ROWS, returned, None).is_whole


def test_a_recipient_that_is_not_named_was_sent_the_message():
    error = MessageSendingError("refused", failed_identities=["+2"])
    assert said(raised=error) == ([1, 3], [2], [])
    error = PermanentSendingError("refused", failed_identities=["+2"])
    assert said(raised=error) == ([1, 3], [], [2])


def test_one_recipient_may_be_named_as_a_string():
    assert said(raised=MessageSendingError("no", failed_identities="+3")) == ([1, 2], [3], [])


def test_a_wrapped_error_is_told_of_itself():
    failure = read(ROWS, None, passed_on(OSError("the reason"))).failed[0]
    assert str(failure.error) == "the reason"


# Whose fault it is


@pytest.mark.parametrize("status", [400, 413, 414, 422])
def test_a_bad_request_for_several_may_be_the_fault_of_one(status):
    assert read(ROWS, None, http_error(status)).is_divisible
    assert read(ROWS, None, urllib_error(status)).is_divisible
    assert not read(ROWS[:1], None, http_error(status)).is_divisible


@pytest.mark.parametrize(
    "error", [http_error(401), http_error(500), OSError("no"), PermanentSendingError("no")]
)
def test_other_failures_are_not_divided(error):
    assert not read(ROWS, None, error).is_divisible


def test_a_bad_request_that_names_recipients_is_not_divided():
    error = http_error(400)
    error.failed_identities = ["+1", "+2"]
    assert not read(ROWS, None, error).is_divisible


def outage(error, rows=ROWS):
    return read(rows, None, error).outage


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError("+254700000000"), "ConnectionRefusedError"),
        (http_error(503), "HTTPError: HTTP 503"),
        (http_error(502), "HTTPError: HTTP 502"),
        (RetryLater("busy"), "RetryLater"),
        (OutcomeUnknown("lost"), "OutcomeUnknown"),
    ],
)
def test_an_outage_has_a_reason_without_numbers_and_texts(error, reason):
    assert outage(error).reason == outage(passed_on(error)).reason == reason


def test_an_account_error_is_about_one_recipient_or_the_account():
    assert outage(http_error(403)).suspect is None
    assert outage(http_error(403), ROWS[1:2]) == Outage("HTTPError: HTTP 403", None, 2)
    assert outage(http_error(503), ROWS[:1]).suspect is None


@pytest.mark.parametrize(
    "error",
    [http_error(400), PermanentSendingError("no"), MessageSendingError("no"), KeyError("no")],
    ids=repr,
)
def test_what_concerns_the_recipient_is_no_outage(error):
    assert outage(error) is None


@pytest.mark.parametrize("named", [["+1"], ["+1", "+2", "+3"]])
def test_a_gateway_that_names_recipients_has_responded(named):
    error = http_error(503)
    error.failed_identities = named
    assert outage(error) is None
    assert read(ROWS, {row.identity: OSError() for row in ROWS}, None).outage is None


def test_a_success_is_no_outage():
    assert read(ROWS, None, None).outage is None
    assert SendResponse().outage is None


# For how long a gateway wants to be left alone


@pytest.mark.parametrize("error_of", [http_error, urllib_error])
@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("120", 120),
        ("1.5", 1.5),
        ("0", 0),
        ("-5", 0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", causes.LONGEST_RETRY_AFTER),
        ("9" * 400, causes.LONGEST_RETRY_AFTER),
        ("9999999", causes.LONGEST_RETRY_AFTER),
    ],
)
def test_a_header_says_for_how_long(error_of, wish, seconds):
    error = error_of(429, **{"Retry-After": wish})
    assert causes.retry_after(error) == seconds
    assert read(ROWS, None, passed_on(error)).retry_after == seconds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (OSError("no"), None),
        (http_error(503), None),
        (RetryLater("no"), 0),
        (RetryLater("no", 30), 30),
        (RetryLater("no", -30), 0),
        (RetryLater("no", "30"), 30),
        (RetryLater("no", timedelta(seconds=30)), None),
        (RetryLater("no", 10**400), None),
        (RetryLater("no", object()), None),
    ],
)
def test_an_exception_says_for_how_long(error, seconds):
    assert causes.retry_after(error) == seconds


def test_the_header_may_be_a_date():
    date = datetime.now(timezone.utc) + timedelta(seconds=90)
    error = http_error(429, **{"Retry-After": format_datetime(date, usegmt=True)})
    assert causes.retry_after(error) == pytest.approx(90, abs=3)
    naive = http_error(429, **{"Retry-After": format_datetime(date.replace(tzinfo=None))})
    assert causes.retry_after(naive) == pytest.approx(90, abs=3)


def test_a_date_in_the_past_is_now():
    past = format_datetime(datetime.now(timezone.utc) - timedelta(days=1))
    assert causes.retry_after(http_error(429, **{"Retry-After": past})) == 0


def test_of_several_recipients_the_longest_wish_counts():
    returned = {"+1": RetryLater("no", 5), "+2": RetryLater("no", 50), "+3": OSError("no")}
    assert read(ROWS, returned, None).retry_after == 50


# Strangers' code


class Unspeakable:
    """Cannot be made a string."""

    def __str__(self):
        raise RuntimeError("no string")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("external_id", "kept"),
    [
        (b"bytes", "bytes"),
        (b"\xff", "\ufffd"),
        ("x" * 5000, "x" * 255),
        ("half \ud83d", "half \ufffd"),
        ("\U0001f600", "\ufffd"),
        ("nul \0", "nul \ufffd"),
        (["a", "b"], "a b"),
        (0, "0"),
        ("", None),
        (True, None),
        (Unspeakable(), None),
    ],
)
def test_an_id_is_kept_as_the_column_can_hold_it(external_id, kept):
    answer = read(ROWS[:1], {"+1": external_id}, None)
    assert answer.external_ids == ({} if kept is None else {1: kept})
    assert len(answer.sent) == 1


def generator_that_raises(*names):
    yield from names
    raise RuntimeError("no more")


@pytest.mark.parametrize(
    "named",
    [True, False, 0, 7, 1.5, "", b"", [], {}, iter(()), object(), Unspeakable()],
    ids=lambda named: type(named).__name__,
)
def test_an_exception_that_names_nobody_is_about_the_whole_call(named):
    error = OfLibrary(failed_identities=named)
    assert said(raised=error) == ([], [1, 2, 3], [])
    assert read(ROWS, None, error).is_whole


@pytest.mark.parametrize(
    "named",
    ["+9", b"+9", "no number", ["+9"], ["+9", None], [Unspeakable()], {"+9": "why"}, repeat("+9")],
    ids=lambda named: type(named).__name__,
)
def test_names_of_nobody_in_the_call_leave_the_outcome_unknown(named):
    error = OfLibrary(failed_identities=named)
    answer = read(ROWS, None, error)
    assert [failure.cause for failure in answer.failed] == [Cause.UNREADABLE] * 3
    assert answer.is_whole
    assert answer.unexpected == "OfLibrary.failed_identities"
    # a call to one recipient can be about no other
    assert said(raised=OfLibrary(failed_identities=named), rows=ROWS[:1]) == ([], [1], [])


@pytest.mark.parametrize("named", [["+2", "+9"], "+2, 0772", generator_that_raises("+2")])
def test_names_of_nobody_beside_others_leave_the_outcome_of_the_rest_unknown(named):
    answer = read(ROWS, None, OfLibrary(failed_identities=named))
    causes_of = {failure.row.id: failure.cause for failure in answer.failed}
    assert causes_of == {1: Cause.UNREADABLE, 2: Cause.RECIPIENT, 3: Cause.UNREADABLE}
    assert not answer.is_whole


NUMBERS = [
    Recipient(1, 1, "+256772000001", 1),
    Recipient(2, 2, "256 772 000 002", 1),
    Recipient(3, 3, "00256772000003", 1),
    Recipient(4, 4, "MTN", 1),
]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("+256772000001", 1),
        ("256772000001", 1),
        (256772000001, 1),
        (" 00256 772-000.001 ", 1),
        ("+(256) 772/000 001", 1),
        ("tel:+256772000001", 1),
        (b"256772000001", 1),
        ("+256772000002", 2),
        (256772000003, 3),
        ("MTN", 4),
    ],
)
def test_names_are_compared_by_their_digits(name, number):
    assert said(raised=OfLibrary(failed_identities=[name]), rows=NUMBERS)[1] == [number]
    if not isinstance(name, bytes):
        assert said(raised=OfLibrary(failed_identities=name), rows=NUMBERS)[1] == [number]
    assert said({name: PermanentSendingError("no")}, rows=NUMBERS)[2] == [number]
    assert read(NUMBERS, {name: "an id"}, None).external_ids == {number: "an id"}


@pytest.mark.parametrize("name", ["mtn", "MTN1", "772000001", "2567720000011", "", None, True, 1.5])
def test_other_names_are_nobodys(name):
    assert not read(NUMBERS, {name: "an id"}, None).sent


def test_an_exact_name_comes_before_one_with_the_same_digits():
    rows = [Recipient(1, 1, "+1", 1), Recipient(2, 2, "1", 1), Recipient(3, 3, "001", 1)]
    assert said({"1": OSError("no")}, rows=rows) == ([1, 3], [2], [])
    assert said({"0 01": OSError("no")}, rows=rows) == ([], [1, 2, 3], [])
    answer = read(rows, {"01": "all", "+1": "first"}, None)
    assert answer.external_ids == {1: "first", 2: "all", 3: "all"}


def test_names_may_come_in_many_ways():
    assert said(raised=OfLibrary(failed_identities={"+1": "why"}))[1] == [1]
    assert said(raised=OfLibrary(failed_identities=iter(("+1", "+2"))))[1] == [1, 2]
    assert said(raised=OfLibrary(failed_identities="+1, +2;+3"))[1] == [1, 2, 3]
    assert said(raised=OfLibrary(failed_identities=generator_that_raises()))[2] == [1, 2, 3]


class Mapping(dict):
    """Cannot be asked."""

    def items(self):
        """Raise."""
        raise RuntimeError("not now")

    get = items


class Hostile(Exception):
    """Raises wherever it is asked."""

    @property
    def response(self):
        """Raise."""
        raise RuntimeError("not now")

    status = status_code = code = retry_after = failed_identities = reason = headers = response

    def __str__(self):
        raise RuntimeError("no string")


def with_headers(headers):
    error = http_error(503)
    error.response.headers = headers
    return error


def circle():
    first, second = KeyError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize(
    "raised",
    [
        Hostile(),
        passed_on(Hostile()),
        circle(),
        with_headers([("Retry-After", "5")]),
        with_headers(None),
        with_headers(7),
        with_headers({"Retry-After": Unspeakable()}),
        with_headers(Mapping()),
        OfLibrary(response=7, retry_after=Unspeakable(), status=Unspeakable()),
        OfLibrary(reason=Unspeakable()),
        Exception(Unspeakable()),
        passed_on(passed_on(passed_on(Hostile()))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_reading_never_raises(raised):
    answer = read(ROWS, None, raised)
    assert [failure.row for failure in answer.failed] == ROWS
    assert answer.retry_after is None
    assert answer.is_divisible is False
    assert answer.outage is None or answer.outage.reason
    answer = read(ROWS, {"+2": raised}, None)
    assert [row.id for row in answer.sent] == [1, 3]
    assert answer.retry_after is None


def test_a_mapping_that_cannot_be_asked_leaves_the_outcome_unknown():
    answer = read(ROWS, Mapping({"+1": "id"}), None)
    assert [failure.cause for failure in answer.failed] == [Cause.UNREADABLE] * 3
    assert answer.unexpected == "Mapping"
