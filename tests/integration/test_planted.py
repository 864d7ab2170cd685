"""What backends, apps and gateways say in errors comes to no place where it does not belong.

A password, a token, a text and a number are planted. Everything fails in every known way. Then the
database, the logs above DEBUG, the signals, the pages of the admin and the broker's files are
searched.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import ssl
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from urllib.parse import quote, quote_plus

import pytest
import requests
import urllib3
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, models
from rapidsms.errors import MessageSendingError
from rapidsms.router import receive, send

from rapidsms_db_router import errors, reports, signals
from rapidsms_db_router.engine import engine
from rapidsms_db_router.inbound.again import reprocess
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound.again import resend
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.recovery import recover
from tests.service import app as service
from tests.service.backends import AnsweringBackend

pytestmark = pytest.mark.django_db

PASSWORD, TOKEN = "Pl4nted&pass word/1", "tok-Pl4nted-99aabb"
TEXT = "news: clinic \u2019Saint Planted\u2019 opens for Mrs Okello on Friday"
NUMBER = "+254700000000"
BASIC = base64.b64encode(f"rapidsms:{PASSWORD}".encode()).decode()
OPTIONS = {
    "ENGINE": "tests.service.backends.AnsweringBackend",
    "sendsms_params": {"username": "rapidsms", "password": PASSWORD},
    "headers": {"Authorization": f"Basic {BASIC}", "X-Key": TOKEN},
    "router.db.max_retries": 1,
}
QUERY = {"username": "rapidsms", "password": PASSWORD, "to": NUMBER, "text": TEXT}
ENCODED = f"http://rapidsms:{quote(PASSWORD, safe='')}@127.0.0.1:1/{TOKEN}/?text={quote_plus(TEXT)}"


@contextmanager
def closing_server():
    """A port that takes a connection and closes it without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def plain(identities):
    raise RuntimeError(f"{QUERY} {identities} {TOKEN} {BASIC}")


def chained(identities):
    try:
        plain(identities)
    except RuntimeError as err:
        raise ValueError(json.dumps({"sent": QUERY, "key": TOKEN})) from err


def refused(identities):
    requests.get("http://127.0.0.1:1/sendsms", params=QUERY, timeout=1)


def refused_by_urllib3(identities):
    urllib3.PoolManager(retries=False).request("GET", "http://127.0.0.1:1/", fields=QUERY)


def no_such_host(identities):
    requests.get("http://gateway.invalid/sendsms", params=QUERY, timeout=1)


def no_tls(identities):
    with closing_server() as server:
        server.listen()
        port = server.getsockname()[1]
        with suppress(OSError):
            urllib3.PoolManager(retries=False).request(
                "GET", f"https://127.0.0.1:{port}/", fields=QUERY, timeout=0.2
            )
    raise ssl.SSLError(1, f"no TLS at {ENCODED}")


def bad_address(identities):
    urllib.request.urlopen(f"http://127.0.0.1:1/?text={TEXT}&password={PASSWORD}")


def status(code):
    def fail(identities):
        response = requests.Response()
        response.status_code, response.reason, response.url = code, TEXT, ENCODED
        response.raise_for_status()

    return fail


def by_urllib(identities):
    raise urllib.error.HTTPError(ENCODED, 403, f"{NUMBER} is barred", {}, None)


class HTTPStatusError(Exception):
    """As httpx has it."""


def like_httpx(identities):
    raise HTTPStatusError(f"Client error '403' for url '{ENCODED}'\nFor more: {TOKEN}")


def sending(kind, **more):
    def fail(identities):
        raise kind(f"{TEXT} to {identities} by {PASSWORD}", **more)

    return fail


def named(identities):
    raise MessageSendingError(f"{TEXT!r}", failed_identities=[NUMBER])


def returned(identities):
    return {each: MessageSendingError(f"{each}: {TEXT} {TOKEN}") for each in identities}


def unreadable(identities):
    return f"ERR 105 {QUERY} {TOKEN}"


def of_the_database(identities):
    raise IntegrityError(f"DETAIL:  Failing row contains (7, {TEXT}, {NUMBER}, {PASSWORD}).")


FAILURES = {
    function.__name__: function
    for function in (
        plain,
        chained,
        refused,
        refused_by_urllib3,
        no_such_host,
        no_tls,
        bad_address,
        by_urllib,
        like_httpx,
        named,
        returned,
        unreadable,
        of_the_database,
    )
}
FAILURES |= {f"status {code}": status(code) for code in (400, 401, 403, 429, 500, 502)}
FAILURES |= {
    kind.__name__: sending(kind)
    for kind in (
        MessageSendingError,
        errors.PermanentSendingError,
        errors.OutcomeUnknown,
        errors.RetryLater,
    )
}

#: Columns in which a text or a number belongs.
OWN = {
    ("rapidsms_db_router", "message", "text"),
    ("rapidsms_db_router", "message", "fields"),
    ("rapidsms", "connection", "identity"),
}


def traces(said):
    """Return which of the secrets, and which of text and number, are in a string, if any is."""
    forms = {
        "secret": [PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), quote_plus(PASSWORD)],
        "private": [TEXT, TEXT[:20], TEXT[-20:], quote(TEXT), quote_plus(TEXT), NUMBER[1:]],
    }
    forms["secret"] += [TOKEN, BASIC, repr(PASSWORD)[1:-1]]
    forms["private"] += [json.dumps(TEXT)[1:-1], repr(TEXT)[1:-1], "Okello", "254700"]
    return {kind for kind, values in forms.items() if any(value in said for value in values)}


class Watch:
    """Everything that leaves the router while a test runs."""

    def __init__(self, caplog, folder):
        self._caplog, self._folder = caplog, folder
        self._signals: list[str] = []
        self._kept = []

    def hear(self):
        for name in ("message_processed", "transmissions_sent", "transmissions_errored"):

            def receiver(signal, sender, message, **said):
                self._signals.append(f"{said} {message.error}")

            getattr(signals, name).connect(receiver)
            self._kept.append((getattr(signals, name), receiver))

    def close(self):
        for signal, receiver in self._kept:
            signal.disconnect(receiver)

    def signals(self):
        return "\n".join(self._signals)

    def log(self):
        formatter = logging.Formatter("%(name)s %(message)s")
        loud = [each for each in self._caplog.records if each.levelno > logging.DEBUG]
        return "\n".join(map(formatter.format, loud))

    def broker(self):
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        bodies = [path.read_text() for path in files]
        bodies += [
            base64.b64decode(found).decode()
            for body in bodies
            for found in re.findall(r'"body": "([^"]+)"', body)
        ]
        return "\n".join(bodies)

    @staticmethod
    def rows():
        """Yield each value in the database, and which column it is in."""
        for model in apps.get_models():
            label = model._meta.app_label, model._meta.model_name
            fields = [
                field
                for field in model._meta.concrete_fields
                if isinstance(field, (models.CharField, models.TextField, models.JSONField))
            ]
            if not fields or not model._meta.managed:
                continue
            for row in model._base_manager.values_list(*(field.attname for field in fields)):
                for field, value in zip(fields, row, strict=True):
                    yield (*label, field.name), str(value)

    def find(self):
        """Return where something planted was found that does not belong there."""
        places = {"log": self.log(), "signals": self.signals(), "broker": self.broker()}
        found = {place: traces(said) for place, said in places.items()}
        for column, value in self.rows():
            kinds = traces(value) - ({"private"} if column in OWN else set())
            found[column] = found.get(column, set()) | kinds
        return {place: kinds for place, kinds in found.items() if kinds}


@pytest.fixture
def watch(caplog, celery_setting, tmp_path):
    caplog.set_level(logging.DEBUG)
    for name in ("tasks", "control", "processed"):
        (tmp_path / name).mkdir()
    # another one each time, since the process keeps its connection to a broker
    celery_setting("broker_url", f"filesystem://{uuid.uuid4()}")
    celery_setting("broker_transport", "rapidsms_db_router.brokers.filesystem.Transport")
    celery_setting(
        "broker_transport_options",
        {
            "data_folder_in": str(tmp_path / "tasks"),
            "data_folder_out": str(tmp_path / "tasks"),
            "control_folder": str(tmp_path / "control"),
            "processed_folder": str(tmp_path / "processed"),
            "store_processed": True,
        },
    )
    watch = Watch(caplog, tmp_path)
    watch.hear()
    yield watch
    watch.close()


@pytest.mark.parametrize("fails", FAILURES.values(), ids=FAILURES)
def test_nothing_that_a_backend_says_gets_out(
    watch, worker, people, installed_backends, client, fails
):
    installed_backends["phones"] = {**OPTIONS, "answer": fails}
    with worker.commit():
        send(TEXT, people(2))
    worker.work()
    worker.make_due()
    assert (
        Transmission.objects.exclude(error="").exists()
        or "circuit" in watch.log()
        or ("batch_requeued" in watch.log())
    )
    assert watch.find() == {}
    client.force_login(User.objects.create_superuser("admin"))
    pages = ["message/", "transmission/", "gateway/"]
    pages += [
        f"transmission/{pk}/change/" for pk in Transmission.objects.values_list("pk", flat=True)
    ]
    for page in pages:
        shown = client.get(f"/admin/rapidsms_db_router/{page}")
        assert "secret" not in traces(shown.content.decode())


@pytest.mark.parametrize("fails", [plain, chained, of_the_database, status(403)])
@pytest.mark.parametrize("phase", ["filter", "handle", "outgoing"])
def test_nothing_that_an_app_says_gets_out(
    watch, worker, person, installed_backends, monkeypatch, fails, phase
):
    installed_backends["phones"] = {**OPTIONS, "answer": lambda identities: None}
    monkeypatch.setattr(service.ServiceApp, phase, lambda self, msg: fails([NUMBER]))
    with worker.commit():
        receive(TEXT, person, fields={"words": TEXT, "external_id": "one"})
        send(TEXT, [person])
    worker.work()
    inbound = Message.objects.get(direction="I")
    assert inbound.status == ("R" if phase == "outgoing" else "E")
    assert watch.find() == {}
    with worker.commit():
        for pk in reprocess(Message.objects.all()):
            doorbells.publish_inbound(Message.objects.get(pk=pk))
        resend(Transmission.objects.all())
    worker.work()
    assert watch.find() == {}


def test_the_broker_gets_no_fields(watch, worker, person, received):
    with worker.commit():
        receive(TEXT, person, fields={"words": TEXT, "key": TOKEN})
    assert "receive_async" in watch.broker()
    assert not traces(watch.broker())
    worker.work()
    assert received[0].fields == {"words": TEXT, "key": TOKEN}


@pytest.mark.parametrize("fails", [plain, chained, of_the_database])
def test_nothing_that_ends_a_task_gets_into_celerys_log(watch, worker, person, monkeypatch, fails):
    with worker.commit():
        receive(TEXT, person)
    engine_class = type(engine())
    monkeypatch.setattr(engine_class, "claim_inbound", lambda *_: fails([NUMBER]))
    worker.work()
    assert "raised unexpected" in watch.log() and "Traceback" in watch.log()
    assert watch.find() == {}


def test_what_a_gateway_reports_gets_out_without_the_text(
    watch, worker, person, installed_backends
):
    installed_backends["phones"] = {**OPTIONS, "answer": lambda identities: None}
    with worker.commit():
        message = send(TEXT, [person]).database_message
    worker.work()
    words = f"id:7 sub:001 stat:UNDELIV err:044 text:{TEXT[:20]} of {NUMBER} {TOKEN}"
    with worker.commit():
        reports.record("failed", message_id=message.pk, identity=NUMBER, reason=words)
        reports.record("failed", external_id="unknown", backend_name="phones", reason=words)
    assert "err:044" in Transmission.objects.get(message=message).error
    assert watch.find() == {}


def test_what_recovery_stores_says_nothing(watch, worker, person, installed_backends):
    installed_backends["phones"] = {**OPTIONS, "answer": plain, "router.db.after_crash": "error"}
    with worker.commit():
        send(TEXT, [person])
    Transmission.objects.update(status="P", attempts=1)
    Message.objects.update(recover_at="2020-01-01T00:00:00Z")
    with connection.cursor(), worker.commit():
        recover()
    assert watch.find() == {}


@pytest.mark.parametrize("page", ["/kannel/", "/kannel/report/"])
def test_a_post_that_is_refused_is_logged_without_what_it_says(watch, client, page):
    query = {"text": TEXT, "identity": NUMBER, "id": NUMBER * 20, "password": PASSWORD}
    assert client.get(page, query).status_code == 400
    assert "post_refused view=" in watch.log()
    assert watch.find() == {}


def test_the_search_finds_what_is_planted(watch, person):
    """What all other tests here rely on."""
    assert AnsweringBackend.__name__ in OPTIONS["ENGINE"]
    logging.getLogger("any").error("%s", quote_plus(PASSWORD))
    message = Message.objects.create(direction="O", text=TEXT, error=f"for {NUMBER}")
    signals.message_processed.send(Message, message=message)
    column = ("rapidsms_db_router", "message", "error")
    assert watch.find() == {"log": {"secret"}, "signals": {"private"}, column: {"private"}}
