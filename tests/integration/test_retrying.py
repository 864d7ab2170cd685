"""Backends that fail: which recipients are tried again, when, and what is stored meanwhile."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from rapidsms.errors import MessageSendingError
from rapidsms.router import receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import BackendNotConfigured
from rapidsms_db_router.models import Batch, Transmission
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.tasks import send_transmissions
from tests.integration.executors import SlowGateway

pytestmark = pytest.mark.django_db

#: What is waited for has come by then, in seconds.
PATIENCE = 30
FAILING = {"ENGINE": "tests.service.backends.FailingBackend"}


def refusing(*numbers):
    return {"ENGINE": "tests.service.backends.RefusingBackend", "refuses": numbers}


def broadcast(worker, people, count=3):
    """Send to so many people; return the message's row and theirs."""
    with worker.commit():
        msg = send("news", people(count))
    return msg.database_message, list(msg.database_message.transmissions.order_by("pk"))


def refreshed(*rows):
    for row in rows:
        row.refresh_from_db()
    return "".join(row.status for row in rows)


def test_a_failed_batch_is_a_batch_with_a_date_and_no_task(worker, people, installed_backends):
    installed_backends["phones"] = FAILING
    message, rows = broadcast(worker, people)
    worker.work()
    assert worker.take() == []
    assert refreshed(message, *rows) == "EEEE"
    batch = message.batches.get()
    assert batch.transmission_ids == [row.pk for row in rows]
    assert (batch.claim_token, batch.recover_at, batch.errored) == (None, None, True)
    for row in rows:
        assert row.attempts == 1
        assert row.error.startswith("outcome unknown: ConnectionError: no way to ")
        assert timedelta(seconds=40) < row.next_try - now() < timedelta(seconds=80)
        # both dates are made of the same delay, one step after the other
        assert abs(batch.ready_at - row.next_try) < timedelta(seconds=1)


def test_only_the_named_are_tried_again(worker, people, calls, installed_backends):
    installed_backends["phones"] = refusing("+254700000001")
    message, rows = broadcast(worker, people)
    worker.work()
    assert refreshed(message, *rows) == "ESES"
    assert message.batches.get().transmission_ids == [rows[1].pk]
    installed_backends["phones"] = refusing()
    worker.make_due()
    assert calls[1].identities == ["+254700000001"]
    assert refreshed(message, *rows) == "SSSS"
    assert rows[1].error == ""
    assert message.sent


def test_nothing_is_tried_again_before_its_date(worker, people, calls, installed_backends):
    installed_backends["phones"] = {**FAILING, "failures": 1}
    message, rows = broadcast(worker, people)
    (doorbell,) = worker.take()
    for _ in range(3):
        worker.run(doorbell)
        assert refreshed(message, *rows) == "EEEE"
    assert len(calls) == 1
    worker.make_due()
    assert refreshed(message, *rows) == "SSSS"
    assert len(calls) == 2


def test_a_sender_looks_for_a_retry_when_its_date_has_come(
    worker, people, calls, installed_backends, settings
):
    installed_backends["phones"] = {**FAILING, "failures": 1}
    settings.DB_ROUTER_RETRY_BACKOFF = 0.1
    message, rows = broadcast(worker, people)
    worker.work()
    deadline = time.monotonic() + PATIENCE
    while len(calls) < 2:
        assert time.monotonic() < deadline
        worker.sender.wait(worker.sender.next_step())
        worker.step()
    assert refreshed(message, *rows) == "SSSS"


def test_a_row_under_way_again_makes_its_message_processing_again(
    worker, people, installed_backends
):
    installed_backends["phones"] = {**FAILING, "failures": 1}
    message, rows = broadcast(worker, people)
    worker.work()
    assert refreshed(message, *rows) == "EEEE"
    Batch.objects.update(ready_at=now())
    gateway = SlowGateway()
    sender = Sender(gateway)
    sender.wake(rows[0].connection.backend)
    sender.step()
    assert refreshed(message, *rows) == "PPPP"
    gateway.answer(0)
    sender.step()
    assert refreshed(message, *rows) == "SSSS"


def test_the_last_try_gives_up_with_the_error(worker, people, calls, installed_backends):
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 2}
    message, rows = broadcast(worker, people)
    worker.work()
    waits = []
    while Batch.objects.exists():
        refreshed(*rows)
        waits.append((rows[0].next_try - now()).total_seconds())
        worker.make_due()
    assert len(calls) == 3
    assert waits[0] < 80 < 85 < waits[1]
    assert refreshed(message, *rows) == "EEEE"
    for row in rows:
        assert (row.attempts, row.next_try) == (3, None)
        assert "ConnectionError" in row.error


def test_no_retries_means_one_try(worker, people, calls, settings, installed_backends):
    installed_backends["phones"] = FAILING
    settings.DB_ROUTER_MAX_RETRIES = 0
    message, rows = broadcast(worker, people)
    worker.work()
    assert refreshed(message, *rows) == "EEEE"
    assert [row.next_try for row in rows] == [None] * 3
    assert len(calls) == 1
    assert not Batch.objects.exists()


def test_a_retry_keeps_working_while_others_of_its_message_are_given_up(
    worker, people, installed_backends
):
    installed_backends["phones"] = FAILING
    _, rows = broadcast(worker, people)
    Transmission.objects.filter(pk=rows[0].pk).update(attempts=5)
    worker.work()
    assert Batch.objects.get().transmission_ids == [row.pk for row in rows[1:]]
    refreshed(*rows)
    assert [row.next_try is None for row in rows] == [True, False, False]


def test_a_task_that_comes_twice_sends_once(worker, people, calls):
    broadcast(worker, people)
    (task,) = worker.take()
    for _ in range(4):
        worker.run(task)
    assert len(calls) == 1


def test_rows_that_another_is_sending_are_left_alone(worker, people, calls):
    message, rows = broadcast(worker, people)
    Transmission.objects.filter(pk=rows[0].pk).update(status="P")
    worker.work()
    assert calls[0].identities == [row.connection.identity for row in rows[1:]]
    assert refreshed(message, *rows) == "PPSS"


def test_a_backend_that_is_not_installed_errs_without_a_retry(worker, people, calls, settings):
    message, rows = broadcast(worker, people)
    settings.INSTALLED_BACKENDS = {}
    worker.work()
    assert refreshed(message, *rows) == "EEEE"
    assert not Batch.objects.exists()
    for row in rows:
        assert row.error.startswith("BackendNotConfigured: Backend 'phones' is not in INSTALLED")
        assert row.next_try is None


# The database is away


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["in", "out"])
def test_a_task_that_finds_no_database_comes_again_soon(
    worker, people, calls, what, caplog, settings
):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 0.2  # for so long it does not give up by itself
    (person,) = people(1)
    with worker.commit():
        receive("ping", person) if what == "in" else send("pong", person)
    (task,) = worker.take()

    def away(*_):
        raise OperationalError("database is locked: +254700000000")

    with connection.execute_wrapper(away):
        worker.run(task)
    (again,) = worker.take()
    assert (again.name, again.kwargs) == (task.name, task.kwargs)
    assert again.eta is not None
    assert "task_put_off" in caplog.text
    assert "+254700000000" not in caplog.text
    assert calls == []
    worker.run(again)
    assert [call.text for call in calls] == ["pong"]


# Tasks called directly


def direct(message, rows):
    send_transmissions(rows[0].connection.backend_id, message.pk, [row.pk for row in rows])


def test_a_direct_call_sends(worker, people, calls):
    message, rows = broadcast(worker, people)
    direct(message, rows)
    assert refreshed(message, *rows) == "SSSS"


def test_a_direct_call_that_names_a_row_twice_sends_to_no_other(worker, people, calls):
    message, rows = broadcast(worker, people)
    first, _, last = (row.pk for row in rows)
    send_transmissions(rows[0].connection.backend_id, message.pk, [first, first, last])
    assert refreshed(message, *rows) == "PSQS"


def test_a_direct_call_raises_what_failed(worker, people, installed_backends):
    installed_backends["phones"] = refusing("+254700000001")
    message, rows = broadcast(worker, people)
    with pytest.raises(MessageSendingError) as caught:
        direct(message, rows)
    assert caught.value.failed_identities == ["+254700000001"]
    assert refreshed(message, *rows) == "ESES"


def test_a_direct_call_raises_from_what_the_backend_raised(worker, people, installed_backends):
    installed_backends["phones"] = FAILING
    message, rows = broadcast(worker, people)
    with pytest.raises(MessageSendingError) as caught:
        direct(message, rows)
    causes = []
    cause = caught.value
    while cause := cause.__cause__:
        causes.append(type(cause))
    assert causes[-1] is ConnectionError


def test_a_direct_call_raises_for_a_backend_that_is_not_installed(worker, people, settings):
    message, rows = broadcast(worker, people)
    settings.INSTALLED_BACKENDS = {}
    with pytest.raises(MessageSendingError) as caught:
        direct(message, rows)
    assert isinstance(caught.value.__cause__, BackendNotConfigured)


def test_a_direct_call_publishes_nothing(worker, people, installed_backends):
    installed_backends["phones"] = FAILING
    message, rows = broadcast(worker, people)
    worker.take()
    with pytest.raises(MessageSendingError):
        direct(message, rows)
    assert worker.take() == []


def test_a_direct_call_with_nothing_to_send_ends_quietly(worker, people, calls):
    message, rows = broadcast(worker, people)
    direct(message, rows)
    direct(message, rows)
    assert len(calls) == 1
