"""Delivery reports: in every order they end in the right status, and none is an error."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from rapidsms.router import send

from rapidsms_db_router import signals
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import EarlyReport, Message, Transmission
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.reports import record
from rapidsms_db_router.tasks import record_delivery_reports
from tests.integration.conftest import statuses
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db


def identities(rows):
    return [row.connection.identity for row in rows]


# Every order


class Gateway(RecordingBackend):
    """Reports before its answer is written down."""

    reports = ()

    def send(self, id_, identities, **kwargs):
        """Report at once."""
        super().send(id_=id_, identities=identities, **kwargs)
        for outcome in Gateway.reports:
            record(outcome, message_id=id_, identity=identities[0])


EVENTS = ("written", "buffered", "delivered", "failed")
#: What a gateway may say instead, and it means the same.
LIKE = {"buffered": "accepted", "failed": "rejected"}
ORDERS = [order for size in (1, 2, 3, 4) for order in permutations(EVENTS, size)]
ORDERS = [order for order in ORDERS if "written" in order]
ORDERS += [tuple(LIKE.get(event, event) for event in order) for order in ORDERS]


@pytest.mark.parametrize("repeated", [1, 2])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_reports_in_any_order_end_in_the_right_status(
    worker, people, installed_backends, monkeypatch, order, repeated
):
    installed_backends["phones"]["ENGINE"] = Gateway
    written = order.index("written")
    monkeypatch.setattr(Gateway, "reports", order[:written] * repeated)
    (person,) = people(1)
    with worker.commit():
        message = send("news", person).database_message
    worker.work()
    for outcome in order[written + 1 :] * repeated:
        record(outcome, message_id=message.pk, identity=person.identity)
    expected = "S"
    if {"failed", "rejected"} & set(order):
        expected = "E"
    if "delivered" in order:
        expected = "D"
    assert statuses(message) == 2 * expected
    row = message.transmissions.get()
    assert row.sent is not None or expected == "E"
    assert (row.delivered is not None) == (expected == "D") == (message.delivered is not None)
    assert bool(row.error) == (expected == "E") == bool(message.error)
    assert row.next_try is None
    assert not message.batches.exists()


# Which transmission is meant


def test_a_report_is_about_one_recipient(sent):
    message, rows = sent(3)
    assert record("delivered", message_id=str(message.pk), identity=rows[1].connection.identity)
    assert statuses(message) == "SSDS"


def test_of_a_message_to_one_the_identity_needs_not_be_said(sent):
    message, _ = sent(1)
    assert record("delivered", message_id=message.pk)
    assert statuses(message) == "DD"


def test_of_a_message_to_several_it_does(sent):
    message, _ = sent(2)
    assert not record("delivered", message_id=message.pk)
    assert statuses(message) == "SSS"


@pytest.mark.parametrize(
    "where",
    [
        {"message_id": 10**9},
        {"message_id": 10**30},
        {"message_id": "x"},
        {"message_id": ""},
        {"message_id": -1},
        {"message_id": "²"},
        {"identity": "+254700000000"},
        {},
    ],
)
def test_what_is_unknown_is_logged_and_no_error(sent, caplog, where):
    message, rows = sent(1)
    assert not record("delivered", **{"identity": rows[0].connection.identity, **where})
    assert "report_unknown" in caplog.text
    assert rows[0].connection.identity not in caplog.text
    assert statuses(message) == "SS"


def test_an_inbound_message_has_no_reports(person, worker):
    from rapidsms.router import receive

    with worker.commit():
        message = receive("hello", person).dbm
    assert not record("delivered", message_id=message.pk, identity=person.identity)


def test_the_backend_tells_identities_apart(worker, people, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    with worker.commit():
        message = send("news", [*people(1), *people(1, "other")]).database_message
    worker.work()
    (identity,) = set(identities(message.transmissions.all()))
    record("delivered", message_id=message.pk, identity=identity, backend_name="other")
    other = message.transmissions.get(connection__backend__name="other")
    assert (other.status, statuses(message)[0]) == ("D", "S")


def test_an_outcome_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="'gone'"):
        record("gone", message_id=1)


# The gateway's own ids


class Naming(RecordingBackend):
    """Returns an id for each."""

    early = ()

    def send(self, identities, **kwargs):
        """Return an id for each; perhaps after having reported it."""
        super().send(identities=identities, **kwargs)
        for outcome, identity in Naming.early:
            record(outcome, external_id=f"id of {identity}", reason="early")
        return {identity: f"id of {identity}" for identity in identities}


@pytest.fixture
def naming(installed_backends, monkeypatch):
    installed_backends["phones"]["ENGINE"] = Naming
    monkeypatch.setattr(Naming, "early", ())
    return Naming


def test_ids_that_a_backend_returns_are_kept_and_found(naming, sent):
    message, rows = sent(3)
    for row in rows:
        assert row.external_id == f"id of {row.connection.identity}"
    assert record("delivered", external_id=rows[2].external_id, backend_name="phones")
    assert not record("delivered", external_id=rows[1].external_id, backend_name="elsewhere")
    assert statuses(message) == "SSSD"


def test_ids_of_replies_are_kept(naming, worker, person):
    from rapidsms.router import receive

    with worker.commit():
        receive("ping", person)
    worker.work()
    row = Transmission.objects.get(message__direction="O")
    assert (row.status, row.external_id) == ("S", f"id of {person.identity}")


def test_a_report_of_an_id_that_no_backend_has_returned_yet_is_kept_for_it(naming, sent, people):
    first, second = identities_of = [person.identity for person in people(2)]
    naming.early = (("delivered", first), ("failed", second), ("delivered", "nobody"))
    message, _ = sent(2)
    assert identities_of == [first, second]
    assert statuses(message) == "EDE"
    assert message.transmissions.get(status="E").error == "failed: early"
    assert EarlyReport.objects.get().external_id == "id of nobody"


def test_a_report_before_the_id_of_a_reply(naming, worker, person):
    from rapidsms.router import receive

    naming.early = (("delivered", person.identity),)
    with worker.commit():
        receive("ping", person)
    worker.work()
    message = Message.objects.get(direction="O")
    assert statuses(message) == "DD"
    assert not EarlyReport.objects.exists()


# What else is written


def test_dates_and_reasons(sent):
    message, rows = sent(2)
    moment = (now() - timedelta(hours=1)).replace(microsecond=0)
    record("delivered", message_id=message.pk, identity=identities(rows)[0], date=moment)
    record("rejected", message_id=message.pk, identity=identities(rows)[1], reason="no\0credit")
    for row in rows:
        row.refresh_from_db()
    assert (rows[0].delivered, rows[0].error) == (moment, "")
    assert (rows[1].delivered, rows[1].error[:12]) == (None, "rejected: no")
    assert statuses(message) == "EDE"
    assert message.error == "1 of 2 transmissions errored"


def test_a_report_that_comes_again_changes_no_date(sent):
    message, (row,) = sent(1)
    record("delivered", message_id=message.pk)
    row.refresh_from_db()
    before, message_before = row.delivered, Message.objects.get().delivered
    assert not record("delivered", message_id=message.pk, date=now() + timedelta(days=1))
    row.refresh_from_db()
    assert (row.delivered, Message.objects.get().delivered) == (before, message_before)


def test_a_failure_is_final(sent, worker):
    message, _ = sent(1)
    record("failed", message_id=message.pk)
    Message.objects.update(recover_at=now())
    recover()
    worker.work()
    assert statuses(message) == "EE"


def test_a_recipient_that_has_the_message_is_not_sent_it_again(sent, worker, calls):
    """A worker died after the gateway had taken the batch; the report came first."""
    message, rows = sent(2)
    Transmission.objects.update(status="Q", sent=None)
    Message.objects.update(status="P", recover_at=now())
    record("delivered", message_id=message.pk, identity=identities(rows)[0])
    record("accepted", message_id=message.pk, identity=identities(rows)[1])
    recover()
    worker.work()
    assert len(calls) == 1
    assert statuses(message) == "SDS"


def test_a_report_of_an_earlier_try_does_not_err_what_was_asked_for_again(sent):
    message, _ = sent(1)
    Transmission.objects.update(status="Q", attempts=0)
    assert not record("failed", message_id=message.pk)
    assert statuses(message)[1] == "Q"


def test_signals_tell_of_reports(sent, django_capture_on_commit_callbacks):
    message, rows = sent(2)
    told = []

    def hear(signal, **kwargs):
        told.append((kwargs["transmission_ids"], kwargs.get("error")))

    signals.transmissions_delivered.connect(hear)
    signals.transmissions_errored.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            for row, outcome in zip(rows, ("delivered", "failed"), strict=True):
                signals.delivery_report.send(
                    sender=None,
                    outcome=outcome,
                    message_id=message.pk,
                    identity=row.connection.identity,
                )
    finally:
        signals.transmissions_delivered.disconnect(hear)
        signals.transmissions_errored.disconnect(hear)
    assert told == [([rows[0].pk], None), ([rows[1].pk], "failed")]
    assert statuses(message) == "EDE"


def test_a_flood_comes_as_a_task(sent, caplog):
    message, rows = sent(2)
    flood = [
        {"outcome": "delivered", "message_id": message.pk, "identity": identity}
        for identity in identities(rows)
    ]
    moment = (now() + timedelta(hours=1)).replace(microsecond=0)
    flood[0]["date"], flood[1]["date"] = moment.isoformat(), "2026-02-30T00:00:00Z"
    flood[1]["reason"] = "half \ud83d"
    nonsense = [{"outcome": "gone"}, {}, {"outcome": "delivered", "colour": 1}, 7, {"date": "x"}]
    record_delivery_reports([*nonsense, *flood])
    assert caplog.text.count("report_refused") == len(nonsense)
    assert statuses(message) == "DDD"
    rows[0].refresh_from_db()
    assert rows[0].delivered == moment


# Messages to many


@pytest.mark.parametrize("backwards", [False, True])
def test_the_last_report_delivers_the_message(sent, backwards):
    message, rows = sent(5)
    order = identities(rows)[:: -1 if backwards else 1]
    for identity in order[:-1]:
        record("delivered", message_id=message.pk, identity=identity)
        assert statuses(message)[0] == "S"
    record("delivered", message_id=message.pk, identity=order[-1])
    assert statuses(message) == "DDDDDD"


def test_each_transmission_is_looked_at_once(sent, django_assert_max_num_queries):
    message, rows = sent(40)
    record("delivered", message_id=message.pk, identity=identities(rows)[0])
    with django_assert_max_num_queries(10):
        record("delivered", message_id=message.pk, identity=identities(rows)[20])
    message.refresh_from_db()
    assert message.undelivered == rows[1].pk
    with django_assert_max_num_queries(12):
        record("delivered", message_id=message.pk, identity=identities(rows)[1])
    message.refresh_from_db()
    assert message.undelivered == rows[2].pk


def test_of_many_the_errors_are_counted_by_recovery(sent, monkeypatch):
    monkeypatch.setattr("rapidsms_db_router.models.status.COUNTABLE", 3)
    message, rows = sent(5)
    for identity in identities(rows)[:2]:
        record("failed", message_id=message.pk, identity=identity)
    assert statuses(message) == "EEESSS"
    assert message.error == "some transmissions errored"
    Message.objects.filter(pk=message.pk).update(recover_at=now())
    recover()
    message.refresh_from_db()
    assert (message.error, message.recover_at) == ("2 of 5 transmissions errored", None)
