"""What a backend returns or raises: each row of the tables in the docs, and what they leave out."""

from __future__ import annotations

import csv
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from itertools import count, repeat
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest
import requests
from rapidsms.backends.kannel import KannelBackend
from rapidsms.errors import MessageSendingError
from rapidsms.models import Backend
from rapidsms.router import lookup_connections, send

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.errors import OutcomeUnknown, PermanentSendingError, RetryLater
from rapidsms_db_router.models import BackendState, Batch, Message, Transmission
from rapidsms_db_router.outbound import calls as outbound_calls
from rapidsms_db_router.outbound import naming
from rapidsms_db_router.outbound.calls import Call, Threads
from rapidsms_db_router.outbound.causes import Cause
from rapidsms_db_router.outbound.response import SendResponse
from tests.integration.stage import Stage

pytestmark = pytest.mark.django_db

TABLES = Path(__file__).parents[2] / "docs" / "howto"
IDENTITIES = [f"+25677200000{number}" for number in (1, 2, 3)]


class Coded(Exception):
    """An exception of some client library."""

    def __init__(self, **said: Any) -> None:
        super().__init__("no")
        vars(self).update(said)


def response(status: int, **headers: str) -> requests.Response:
    found = requests.Response()
    found.status_code = status
    found.headers.update(headers)
    return found


async def coroutine() -> None:
    """Never run."""


def generator() -> Iterator[None]:
    yield


NAMES = {
    "Coded": Coded,
    "HTTPStatus": HTTPStatus,
    "MessageSendingError": MessageSendingError,
    "OutcomeUnknown": OutcomeUnknown,
    "PermanentSendingError": PermanentSendingError,
    "RetryLater": RetryLater,
    "UUID": UUID,
    "coroutine": coroutine,
    "generator": generator,
    "json": json,
    "requests": requests,
    "response": response,
    "socket": socket,
}


def evaluate(example: str, identities: list[str] = IDENTITIES) -> Any:
    """Return what an example in the docs stands for."""
    if found := re.fullmatch(r"HTTP (\d+)(?:, Retry-After: (\d+))?", example):
        headers = {"Retry-After": found[2]} if found[2] else {}
        return requests.HTTPError("no", response=response(int(found[1]), **headers))
    return eval(example, {**NAMES, "identities": identities})


def examples(table: str, column: str) -> list[Any]:
    """Return each example of a table with its row."""
    with (TABLES / table).open(encoding="utf-8", newline="") as file:
        return [
            pytest.param(row, example, id=f"{row.get('To', 'three')}: {example}")
            for row in csv.DictReader(file)
            for example in re.findall("``(.+?)``", row[column])
        ]


LETTERS = {
    "Sent": "S",
    "Tried again": "retried",
    "Given up": "given up",
    "Outcome unknown": "unknown",
    "Wait as Queued": "Q",
}


def expected(cell: str, count: int) -> list[str]:
    """Return what a cell says of each recipient."""
    if found := re.match(r"First: ([^.]+)\. Others: ([^.]+)\.", cell):
        return [LETTERS[found[1]]] + [LETTERS[found[2]]] * (count - 1)
    return [LETTERS[cell.partition(".")[0]]] * count


def outcomes(message: Message) -> list[str]:
    """Return what has become of each recipient, in the words of the tables."""
    found = []
    for row in message.transmissions.order_by("pk"):
        outcome = row.status
        if outcome == "E":
            outcome = "given up" if row.next_try is None else "retried"
            if row.next_try is None and row.error.startswith("outcome unknown: "):
                outcome = "unknown"
        found.append(outcome)
    return found


def circuit() -> str:
    """Return what has become of the circuit, in the words of the tables."""
    state = BackendState.objects.filter(failures__gt=0).first()
    if state is None:
        return "Closes."
    return "Outage." if state.open_until is None else "Opens at once."


@pytest.fixture
def send_to(installed_backends, worker, monkeypatch) -> Callable[..., Message]:
    """A function that sends a message to some identities; the backend answers as it is told."""
    monkeypatch.setattr(outbound_calls, "_told", set())

    def send_to(
        answer: Callable[[list[str]], Any], identities: list[str] = IDENTITIES, **options: Any
    ) -> Message:
        engine = "tests.service.backends.AnsweringBackend"
        installed_backends["phones"] = {"ENGINE": engine, "answer": answer, **options}
        with worker.commit():
            stored = send("news", lookup_connections("phones", identities)).database_message
        worker.work()
        stored.refresh_from_db()
        return stored

    return send_to


@pytest.mark.parametrize(("row", "example"), examples("returned.csv", "Returned"))
def test_what_a_backend_returns(send_to, caplog, row, example):
    identities = IDENTITIES[: {"one": 1, "three": 3}[row["To"]]]
    message = send_to(lambda _: evaluate(example), identities)
    assert outcomes(message) == expected(row["Recipients"], len(identities))
    assert circuit() == row["Circuit"]
    logged = [line for line in caplog.messages if line.startswith("response_unexpected ")]
    assert len(logged) == (row["Logged"] == "Yes.")
    first = message.transmissions.order_by("pk")[0]
    if "has this id" in row["Recipients"]:
        assert first.external_id in example or first.external_id == str(evaluate(example))


@pytest.mark.parametrize(("row", "example"), examples("raised.csv", "Raised"))
def test_what_a_backend_raises(send_to, row, example):
    def answer(identities):
        raise evaluate(example)

    message = send_to(answer)
    assert outcomes(message) == expected(row["Recipients"], 3)
    assert circuit() == row["Circuit"]


# What the tables leave out


def test_a_warning_once_for_each_backend_names_no_text_and_no_number(send_to, caplog):
    for _ in range(2):
        send_to(lambda identities: {"status": f"error {identities}"})
    warnings = [line for line in caplog.messages if line.startswith("response_unexpected ")]
    backend = Backend.objects.get()
    assert warnings == [f"response_unexpected backend={backend.pk} type=dict"]
    assert not any("news" in line or "772" in line for line in caplog.messages)


@pytest.mark.parametrize("after_crash", ["resend", "error"])
def test_an_answer_that_names_nobody_is_not_asked_for_again(send_to, worker, calls, after_crash):
    message = send_to(lambda _: {"status": "ok"}, **{"router.db.after_crash": after_crash})
    for _ in range(8):
        worker.make_due()
    assert outcomes(message) == ["unknown"] * 3
    assert message.transmissions.first().error.startswith(
        "outcome unknown: UnreadableResponse: The dict that send() returned names no recipient"
    )
    assert len(calls) == 1


class Unspeakable:
    """Cannot be made a string, nor anything else."""

    def __str__(self) -> str:
        raise RuntimeError("no string")

    __repr__ = __iter__ = __len__ = __bool__ = __int__ = __eq__ = __str__  # type: ignore[assignment]
    __hash__ = object.__hash__


class UnspeakableError(Exception):
    """Raises wherever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no string")

    @property
    def failed_identities(self) -> None:
        """Raise."""
        raise RuntimeError("no names")

    response = status = code = retry_after = headers = failed_identities


UNSTORABLE = [
    "nul \0",
    "half \ud83d",
    "\U0001f600",
    300 * "x",
    5_000_000 * "9",
    b"\xff\0",
    10**5000,
]


@pytest.mark.parametrize(
    "said", [*UNSTORABLE, Unspeakable(), ["7f3a", "\0"]], ids=lambda x: f"{type(x)}"[8:-2]
)
def test_an_id_that_no_column_can_hold_undoes_no_call(send_to, said):
    message = send_to(lambda identities: {identities[0]: said})
    assert outcomes(message) == ["S", "S", "S"]
    assert (message.status, Batch.objects.count()) == ("S", 0)


@pytest.mark.parametrize("text", [*UNSTORABLE, Unspeakable()], ids=lambda x: f"{type(x)}"[8:-2])
def test_an_error_that_no_column_can_hold_undoes_no_call(send_to, text):
    def answer(identities):
        raise Coded(failed_identities=[identities[0], text], headers=[text], retry_after=text)

    first, *others = outcomes(send_to(answer))
    assert (first, set(others)) == ("retried", {"unknown"})

    def fail(identities):
        raise type("Coded\udc80", (Coded,), {"__str__": lambda _: text})()

    assert outcomes(send_to(fail)) == ["retried"] * 3


@pytest.mark.parametrize("named", [Unspeakable(), True, 7, repeat("+9"), iter([1]), {"+9": 1}])
def test_names_that_cannot_be_read_undo_no_call(send_to, named):
    def answer(identities):
        raise Coded(failed_identities=named, response=response(503, X="y"))

    message = send_to(answer)
    assert set(outcomes(message)) <= {"Q", "unknown"}
    assert message.transmissions.filter(attempts=1).count() in (0, 3)


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: {IDENTITIES[0]: error}])
def test_an_exception_that_says_it_is_false_is_a_failure(send_to, wrap):
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    assert outcomes(send_to(lambda _: wrap(Empty())))[0] == "retried"


def test_an_exception_that_raises_wherever_it_is_asked_undoes_no_call(send_to):
    def answer(identities):
        raise UnspeakableError

    assert outcomes(send_to(answer)) == ["retried"] * 3
    assert outcomes(send_to(lambda _: UnspeakableError())) == ["retried"] * 3
    assert outcomes(send_to(lambda _: UnspeakableError)) == ["retried"] * 3


class Endless(Mapping[Any, Any]):
    """A mapping without end, as of a client library that asks its server for each page."""

    def __getitem__(self, name: Any) -> Any:
        raise KeyError(name)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return map(str, count(1))

    def items(self) -> Any:
        """Return the pairs."""
        return ((name, "7f3a9c21") for name in self)


def test_a_mapping_without_end_is_not_read_to_its_end(send_to, monkeypatch):
    monkeypatch.setattr(naming, "MOST_NAMES", 1000)
    assert set(outcomes(send_to(lambda _: Endless()))) == {"unknown"}


def test_the_sender_reads_nothing_of_what_a_backend_raised(worker, monkeypatch, people):
    """Else an exception whose text takes its time would hold up all other backends' messages."""
    reading: list[bool] = []

    class Slow(Exception):
        def __str__(self) -> str:
            reading.append(in_call)
            return "no"

        def __getattr__(self, name: str) -> Any:
            reading.append(in_call)
            raise AttributeError(name)

        failed_identities = None

    stage = Stage(worker, monkeypatch)
    for person in people(2):
        stage.store([person])
    stage.step()
    in_call = True
    stage.gateway.answer(0, Slow())
    stage.gateway.answer(1, returned={people(2)[1].identity: Slow()})
    in_call = False
    stage.step()
    assert set(reading) == {True}
    rows = Transmission.objects.order_by("pk")
    assert [(row.status, row.error) for row in rows] == [("E", "Slow: no")] * 2


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_is_no_exception_ends_a_call_in_a_thread(person, error):
    """Its recipients' outcome is unknown at once, and the thread makes further calls."""

    class Router:
        def send_to_backend(self, **_: Any) -> Any:
            raise error

    threads, ended = Threads(Router), SimpleQueue[SendResponse]()
    row = Recipient(1, person.pk, person.identity, 1)
    for _ in range(2):
        call = Call(1, "phones", Message(pk=1, text="news"), [row], 1, 0.0)
        threads.start(call, lambda _, answered: ended.put(answered))
        answered = ended.get(timeout=30)
        assert answered.cause is Cause.UNKNOWN
    threads.close()


# Eager and direct calls


@pytest.mark.parametrize("said", [{"+9": "x"}, "ERR 105", ["ERR 105"], False])
def test_an_eager_call_ends_whatever_is_said(installed_backends, said):
    installed_backends["phones"] = {
        "ENGINE": "tests.service.backends.AnsweringBackend",
        "answer": lambda _: said,
        "router.db.max_retries": 1,
    }
    message = send("news", lookup_connections("phones", IDENTITIES)).database_message
    message.refresh_from_db()
    assert (message.status, message.given_up) == ("E", True)
    assert not Batch.objects.exists()


# A recipient whose number the gateway cannot handle


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}])
def test_a_number_that_breaks_the_gateway_is_given_up_in_the_end(
    worker, monkeypatch, installed_backends, people, headers
):
    installed_backends["phones"]["router.db.batch_size"] = 1
    installed_backends["phones"]["router.db.concurrency"] = 1
    stage = Stage(worker, monkeypatch)
    everyone = people(20)
    message = stage.store(everyone)
    error = requests.HTTPError("no", response=response(500, **headers))

    def answer(call: Call) -> Exception | None:
        return error if call.rows[0].identity == everyone[7].identity else None

    for _ in range(45):
        stage.play(answer, seconds=60)
        stage.store(people(1), "more")
    stage.play(answer)
    letters = "".join(message.transmissions.order_by("pk").values_list("status", flat=True))
    assert letters == 7 * "S" + "E" + 12 * "S"
    assert message.transmissions.get(status="E").next_try is None
    asked = [call for call in stage.gateway.calls if call.rows[0].identity == everyone[7].identity]
    # the first does not count, nor do trials; then five retries
    assert 1 + 6 <= len(asked) <= 12
    assert Message.objects.exclude(status="S").count() == 1


# Numbers with white space


@pytest.mark.parametrize(
    ("engine", "unfit"),
    [
        ("rapidsms.backends.kannel.KannelBackend", ["+256 772 000 001", "0772\t1", "0772\n", ""]),
        ("rapidsms.backends.kannel.outgoing.KannelBackend", ["(0772) 000001", "0772\xa01"]),
        ("tests.integration.test_responses.ProjectsKannel", ["1 2"]),
    ],
)
def test_a_number_with_white_space_is_not_handed_to_an_engine_that_joins_by_it(
    installed_backends, worker, monkeypatch, engine, unfit
):
    asked = []

    def get(url: str, params: dict[str, Any]) -> requests.Response:
        asked.append(params["to"])
        return response(200)

    monkeypatch.setattr("rapidsms.backends.kannel.outgoing.requests.get", get)
    installed_backends["phones"] = {"ENGINE": engine}
    with worker.commit():
        message = send("news", lookup_connections("phones", ["+254700000001", *unfit, "0772"]))
    worker.work()
    rows = message.database_message.transmissions
    assert asked == ["+254700000001 0772"]
    assert rows.filter(status="S").count() == 2
    given_up = rows.filter(status="E", next_try=None, error__contains="has white space")
    assert given_up.count() == len(unfit)


class ProjectsKannel(KannelBackend):
    """A project's own subclass."""


def test_a_call_to_nobody_else_tells_nothing_of_the_gateway(
    installed_backends, worker, monkeypatch
):
    installed_backends["phones"] = {"ENGINE": "rapidsms.backends.kannel.KannelBackend"}
    backend = lookup_connections("phones", ["1 2"])[0].backend
    BackendState.objects.create(backend=backend, failures=2)
    with worker.commit():
        send("news", lookup_connections("phones", ["1 2"]))
    worker.work()
    assert BackendState.objects.get().failures == 2
    assert Transmission.objects.get().status == "E"


def test_other_engines_get_every_number(installed_backends, worker, calls):
    with worker.commit():
        send("news", lookup_connections("phones", ["+256 772 000 001"]))
    worker.work()
    assert [call.identities for call in calls] == [["+256 772 000 001"]]
