"""Which transmission a report is about, however the gateway writes what it names."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.router import lookup_connections, send

from rapidsms_db_router.models import Transmission
from rapidsms_db_router.reports import record
from rapidsms_db_router.reports.matching import find
from rapidsms_db_router.reports.report import read
from tests.integration.conftest import statuses
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

NUMBER = "+256772000001"


@pytest.fixture
def sent_to(worker):
    """A function that sends to these identities; returns the message."""

    def sent_to(*identities, backend="phones"):
        with worker.commit():
            message = send("news", lookup_connections(backend, identities)).database_message
        worker.work()
        return message

    return sent_to


def moved(message):
    """Return the identities that a report has moved."""
    rows = message.transmissions.filter(status="D").order_by("pk")
    return [row.connection.identity for row in rows]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (NUMBER, NUMBER),
        (NUMBER, "256772000001"),
        (NUMBER, " 256772000001"),
        (NUMBER, "00256772000001"),
        (NUMBER, "+00256772000001"),
        (NUMBER, "0772000001"),
        (NUMBER, "772000001"),
        (NUMBER, "(0772) 000-001"),
        (NUMBER, "+256 772 000 001\n"),
        (NUMBER, 256772000001),
        ("256772000001", NUMBER),
        ("00256772000001", NUMBER),
        ("0772000001", NUMBER),
        ("0772000001", "256772000001"),
        ("0772 000001", "0772000001"),
        ("12345", "012345"),
        ("alice", " alice "),
        ("MTN", "MTN"),
    ],
)
@pytest.mark.parametrize("others", [False, True])
def test_a_number_is_found_in_every_notation(sent_to, known, said, others):
    message = sent_to(known, *(["+256772000002", "+1555", "bob"] if others else []))
    assert record("delivered", message_id=message.pk, identity=said)
    assert moved(message) == [known]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (["+256772000001"], "+256772000002"),
        (["+256772000001"], "1"),
        (["+256772000001"], "00001"),
        (["+256772000001"], "x256772000001"),
        (["alice1"], "1"),
        (["alice"], "Alice2"),
        (["+"], "0"),
        (["+256772000001", "+254772000001"], "0772000001"),
        (["+256772000001"], "²56772000001"),
    ],
)
def test_what_fits_nobody_or_several_moves_nothing(sent_to, caplog, known, said):
    message = sent_to(*known)
    assert not record("delivered", message_id=message.pk, identity=said)
    assert "report_unknown" in caplog.text
    assert moved(message) == []


def test_of_two_that_fit_the_better_one_is_meant(sent_to):
    message = sent_to("+256772000001", "0772000001")
    assert record("delivered", message_id=message.pk, identity="256772000001")
    assert record("delivered", message_id=message.pk, identity="0772000001")
    assert moved(message) == ["+256772000001", "0772000001"]


def test_a_national_number_is_found_in_a_broadcast(sent_to, monkeypatch):
    monkeypatch.setattr("rapidsms_db_router.reports.matching.MOST_EXAMPLES", 2)
    message = sent_to(*(f"+25677200000{n}" for n in range(9)))
    assert record("delivered", message_id=message.pk, identity="0772000007")
    assert moved(message) == ["+256772000007"]


def test_two_backends_with_the_same_person_are_told_apart_by_name_alone(
    sent_to, installed_backends, worker
):
    installed_backends["other"] = installed_backends["phones"]
    people = [*lookup_connections("phones", [NUMBER]), *lookup_connections("other", [NUMBER])]
    with worker.commit():
        message = send("news", people).database_message
    worker.work()
    assert not record("delivered", message_id=message.pk, identity=NUMBER)
    assert not record("delivered", message_id=message.pk, identity=NUMBER, backend_name="gone")
    assert record("delivered", message_id=message.pk, identity=NUMBER, backend_name="other")
    assert message.transmissions.get(status="D").connection.backend.name == "other"


# The gateway's own ids


def name(message, *ids):
    """Have the gateway's ids be these, in the order of the transmissions."""
    rows = message.transmissions.order_by("pk")
    for row, external_id in zip(rows, ids, strict=True):
        Transmission.objects.filter(pk=row.pk).update(external_id=external_id)


def test_of_one_id_for_three_people_the_named_one_moves(sent_to):
    message = sent_to("+256772000001", "+256772000002", "+256772000003")
    name(message, "id", "id", "id")
    assert record("delivered", external_id="id", identity="0772000002")
    assert moved(message) == ["+256772000002"]
    assert not record("delivered", external_id="id", identity="+256772000009")
    assert moved(message) == ["+256772000002"]


def test_without_an_identity_the_newest_of_an_id_moves_alone(sent_to):
    old, new = sent_to(NUMBER), sent_to(NUMBER, "+256772000002")
    name(old, "id")
    name(new, "id", "id")
    assert record("delivered", external_id="id")
    assert (moved(old), moved(new)) == ([], ["+256772000002"])


def test_of_an_id_that_is_used_again_the_newest_is_meant(sent_to):
    old, new = sent_to(NUMBER), sent_to(NUMBER)
    for message in (old, new):
        name(message, "1")
    assert record("delivered", external_id="1", identity=NUMBER)
    assert not record("delivered", external_id="1", identity=NUMBER)
    assert (moved(old), moved(new)) == ([], [NUMBER])


def test_the_message_that_is_named_comes_before_the_newest(sent_to):
    old, new = sent_to(NUMBER), sent_to(NUMBER)
    for message in (old, new):
        name(message, "1")
    assert record("delivered", external_id="1", message_id=old.pk)
    assert (moved(old), moved(new)) == ([NUMBER], [])


def test_an_id_of_an_earlier_try_does_not_hide_the_person(sent_to):
    message = sent_to(NUMBER, "+256772000002")
    name(message, "1", "2")
    assert record("delivered", external_id="0", message_id=message.pk, identity=NUMBER)
    assert moved(message) == [NUMBER]


def test_ids_differ_by_case(sent_to):
    message = sent_to(NUMBER)
    name(message, "aB")
    assert not record("delivered", external_id="Ab")
    assert statuses(message) == "SS"


def test_a_message_id_that_is_no_number_leaves_the_decision_to_the_id(sent_to):
    message = sent_to(NUMBER)
    name(message, "1")
    assert record("delivered", external_id="1", message_id="22d411ab-15be")
    assert moved(message) == [NUMBER]


def test_an_unknown_id_is_looked_for_by_the_id_alone(person):
    with CaptureQueriesContext(connection) as looked:
        assert find(read("delivered", external_id="1", backend_name="phones")) is None
    assert len(looked) == 2
    # no plan can begin with the backend, or with its connections
    assert not any("JOIN" in query["sql"] for query in looked.captured_queries)


@pytest.mark.parametrize(
    ("returned", "said"), [("abc", " abc\n"), ("abc\r\n", "abc"), (" a b ", "a b")]
)
def test_white_space_around_an_id_keeps_no_report_from_its_message(
    sent_to, installed_backends, returned, said
):
    class Naming(RecordingBackend):
        def send(self, id_, identities, **kwargs):
            return dict.fromkeys(identities, returned)

    installed_backends["phones"]["ENGINE"] = Naming
    message = sent_to(NUMBER)
    assert record("delivered", external_id=said)
    assert moved(message) == [NUMBER]
