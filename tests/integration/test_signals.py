"""What a project's own code is told, and when."""

from __future__ import annotations

import pytest
from django.db import transaction
from rapidsms.router import receive, send

from rapidsms_db_router import signals
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.reports import record
from tests.integration.executors import SlowGateway
from tests.service.backends import RecordingBackend
from tests.service.hearing import hearing

pytestmark = pytest.mark.django_db


@pytest.fixture
def told():
    """Every signal sent so far: its name and what came with it."""
    with hearing(*signals.__all__) as told:
        yield told


def names(told):
    return [name for name, _ in told]


def test_message_processed_is_told_of_a_message_that_is_received(person, told):
    msg = receive("whatever", person)
    ((name, named),) = told
    assert name == "message_processed"
    assert named == {"sender": Message, "message": msg.dbm}
    assert named["message"].status == "R"


@pytest.mark.parametrize("text", ["raise", "dberror"])
def test_message_processed_is_told_of_a_message_that_is_errored(person, told, text):
    receive(text, person)
    ((name, named),) = told
    assert name == "message_processed"
    assert named["message"].status == "E"
    assert named["message"].error


def test_transmissions_sent_names_message_backend_and_rows(people, told):
    msg = send("news", people(2))
    ((name, named),) = told
    assert name == "transmissions_sent"
    assert named == {
        "sender": Transmission,
        "message": msg.database_message,
        "backend_name": "phones",
        "transmission_ids": sorted(Transmission.objects.values_list("pk", flat=True)),
    }
    assert named["message"].status == "S"


def test_transmissions_errored_names_reason_and_next_try(people, worker, told, installed_backends):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    with worker.commit():
        send("news", people(2))
    worker.work()
    ((name, named),) = told
    row = Transmission.objects.first()
    assert name == "transmissions_errored"
    assert named["error"] == row.error
    assert named["next_try"] == row.next_try is not None
    assert len(named["transmission_ids"]) == 2
    assert named["message"].status == "E"


def test_of_a_message_that_is_sent_in_batches_the_status_is_that_of_the_moment(
    people, worker, told, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    with worker.commit():
        send("news", people(2))
    gateway = worker.sender.executor = SlowGateway()
    worker.sender.wake(people(1)[0].backend)
    worker.sender.step()
    seen = []
    for number in (0, 1):
        gateway.answer(number)
        worker.sender.step()
        seen.append(told[-1][1]["message"].status)
    assert (names(told), seen) == (["transmissions_sent"] * 2, ["P", "S"])


def test_an_early_report_is_told_of_after_the_sending(person, worker, told, installed_backends):
    class Gateway(RecordingBackend):
        def send(self, identities, **kwargs):
            super().send(identities=identities, **kwargs)
            record("delivered", external_id="gateway-1")
            return dict.fromkeys(identities, "gateway-1")

    installed_backends["phones"] = {"ENGINE": Gateway}
    with worker.commit():
        send("news", [person])
    worker.sender.wake(person.backend)
    with worker.commit():
        worker.step()
    assert names(told) == ["transmissions_sent", "transmissions_delivered"]
    assert Message.objects.get().status == "D"


def test_a_divided_batch_is_told_in_two(people, worker, told, installed_backends):
    installed_backends["phones"] = {
        "ENGINE": "tests.service.backends.RefusingBackend",
        "refuses": ["+254700000001"],
        "router.db.max_retries": 0,
    }
    with worker.commit():
        send("news", people(3))
    worker.work()
    rows = list(Transmission.objects.order_by("pk").values_list("pk", flat=True))
    assert [(name, named["transmission_ids"]) for name, named in told] == [
        ("transmissions_sent", [rows[0], rows[2]]),
        ("transmissions_errored", [rows[1]]),
    ]
    assert told[1][1]["next_try"] is None


def test_nothing_is_told_of_what_was_not_done(person, told):
    send("cancel", [person])
    send("news", [])
    assert told == []


def test_a_message_processed_once_is_told_of_once(person, worker, told):
    with worker.commit():
        receive("whatever", person)
    (task,) = worker.take()
    worker.run(task)
    worker.run(task)
    assert names(told) == ["message_processed"]


def test_a_receiver_that_raises_changes_nothing(person, calls):
    def receiver(**named):
        raise RuntimeError

    for name in signals.__all__:
        getattr(signals, name).connect(receiver)
    try:
        receive("ping", person)
    finally:
        for name in signals.__all__:
            getattr(signals, name).disconnect(receiver)
    assert [call.text for call in calls] == ["pong"]
    assert list(Message.objects.order_by("pk").values_list("status", flat=True)) == ["R", "S"]


@pytest.mark.django_db(transaction=True)
def test_signals_are_sent_once_the_change_is_committed(person, worker):
    in_transaction = []

    def receiver(**named):
        in_transaction.append(transaction.get_connection().in_atomic_block)

    for name in signals.__all__:
        getattr(signals, name).connect(receiver)
    try:
        receive("ping", person)
        worker.work()
    finally:
        for name in signals.__all__:
            getattr(signals, name).disconnect(receiver)
    assert in_transaction == [False, False]


def test_what_a_receiver_raises_is_no_line_in_the_log(person, calls, caplog):
    def receiver(**named):
        raise ValueError(f"{person.identity} has malaria")

    signals.message_processed.connect(receiver)
    try:
        with caplog.at_level("INFO"):
            receive("ping", person)
    finally:
        signals.message_processed.disconnect(receiver)
    assert "receiver_failed" in caplog.text
    assert "malaria" not in caplog.text
    assert person.identity not in caplog.text
