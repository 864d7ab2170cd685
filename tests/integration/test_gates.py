"""Limits, gateways that are out of order, and operators who pause them."""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests
from rapidsms.errors import MessageSendingError
from rapidsms.models import Backend
from rapidsms.router import receive, send

from rapidsms_db_router import delivery, gates
from rapidsms_db_router.clock import now
from rapidsms_db_router.errors import PermanentSendingError, RetryLater
from rapidsms_db_router.models import BackendState, Batch, Message, Transmission
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.tasks import ring_later
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db


class Gateway(RecordingBackend):
    """Does what the test says."""

    error: Exception | None = None
    bad = ()

    def send(self, identities, **kwargs):
        """Raise what is to be raised."""
        super().send(identities=identities, **kwargs)
        if Gateway.error is not None:
            raise Gateway.error
        if bad := [identity for identity in identities if identity in Gateway.bad]:
            raise http_error(400, f"bad: {len(bad)}")


def http_error(status, text="", **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(text, response=response)


@pytest.fixture
def gateway(installed_backends, settings, monkeypatch):
    """The gateway of ``phones``; one recipient a call, a task a call."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    monkeypatch.setattr(delivery, "MOMENT", 0)
    monkeypatch.setattr(Gateway, "error", None)
    monkeypatch.setattr(Gateway, "bad", ())
    installed_backends["phones"] = {"ENGINE": Gateway}
    return Gateway


@pytest.fixture
def options(gateway, installed_backends):
    """The options of ``phones``."""
    return installed_backends["phones"]


@pytest.fixture
def time_stands_still(monkeypatch):
    """Time passes for backends only where the test says so; return what time it is for them."""
    moment = now()
    monkeypatch.setattr(gates, "now", lambda: moment)
    return moment


def broadcast(worker, connections, text="news"):
    with worker.commit():
        return send(text, connections).database_message


def statuses(message):
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return "".join(rows)


def state():
    return BackendState.objects.get()


def let_time_pass(seconds):
    """Move every date of the backends back, and of what waits for its next try."""
    by = timedelta(seconds=seconds)
    for row in BackendState.objects.all():
        for name in ("closed_until", "free_at", "told_until"):
            date = getattr(row, name)
            setattr(row, name, date and date - by)
        row.save()
    for row in Transmission.objects.exclude(next_try=None):
        Transmission.objects.filter(pk=row.pk).update(next_try=row.next_try - by)


def later(worker):
    """Run what is to be run now; return what is to be run later."""
    return worker.work()


# A gateway that fails call after call


def fail_until_closed(worker, people, count=10):
    message = broadcast(worker, people(count))
    tasks = worker.work()
    return message, tasks


def test_a_gateway_that_fails_is_left_alone_and_what_is_for_it_waits_in_q(
    gateway, worker, people, calls
):
    gateway.error = ConnectionError("nobody there")
    message, tasks = fail_until_closed(worker, people)
    assert len(calls) == gates.FAILURES
    assert statuses(message) == "EEE" + 7 * "Q"
    assert timedelta(seconds=40) < state().closed_until - now() < timedelta(seconds=80)
    # the three that failed, and one that will find out
    assert len([task for task in tasks if task.eta]) == gates.FAILURES + 1
    assert Batch.objects.filter(due__isnull=True).count() == 6


def test_it_is_tried_with_one_batch_after_ever_longer_times(gateway, worker, people, calls):
    gateway.error = ConnectionError("nobody there")
    message, tasks = fail_until_closed(worker, people)
    waits = []
    for tries in range(1, 4):
        let_time_pass(10_000)
        pending, tasks = tasks, []
        for task in pending:
            worker.run(task)
        tasks = worker.work()
        assert len(calls) == gates.FAILURES + tries
        waits.append((state().closed_until - now()).total_seconds())
    assert waits[0] < waits[1] < waits[2]
    # who was tried meanwhile is none the worse for it
    assert set(statuses(message)) == {"E", "Q"}
    assert Transmission.objects.get(connection__identity=calls[-1].identities[0]).attempts <= 1
    tried = [call.identities[0] for call in calls[-3:]]
    assert len(set(tried)) == len(tried)


def test_once_it_works_again_all_is_sent(gateway, worker, people, calls):
    gateway.error = ConnectionError("nobody there")
    message, tasks = fail_until_closed(worker, people, 30)
    gateway.error = None
    while tasks:
        let_time_pass(10_000)
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
    message.refresh_from_db()
    assert (message.status, statuses(message)) == ("S", 30 * "S")
    assert len(calls) == 30 + gates.FAILURES
    assert not Batch.objects.exists()
    assert not state().hinders
    # and all is as it was
    broadcast(worker, people(1), "more")
    assert worker.work() == []
    assert calls[-1].text == "more"


def test_no_more_than_a_few_are_told_of_when_it_works_again(gateway, worker, people):
    gateway.error = ConnectionError("nobody there")
    _, tasks = fail_until_closed(worker, people, 60)
    gateway.error = None
    let_time_pass(10_000)
    for task in tasks:
        worker.run(task)
    most = 0
    while tasks := worker.take():
        most = max(most, len(tasks))
        worker.run(tasks[0])
        for task in tasks[1:]:
            worker.run(task)
    assert 2 <= most <= 2 * gates.MOST_TOLD
    assert not Batch.objects.exists()


def test_what_fails_again_and_again_by_itself_is_given_up(gateway, options, worker, people):
    """One message that a gateway stumbles over is no reason to leave it alone."""
    options["router.db.max_retries"] = 3
    gateway.error = ConnectionError("stumbled")
    message, tasks = fail_until_closed(worker, people, 1)
    for _ in range(3):
        let_time_pass(10_000)
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
    assert tasks == []
    assert statuses(message) == "E"
    assert message.transmissions.get().next_try is None
    assert not state().hinders


def test_a_message_that_comes_meanwhile_waits_and_nobody_is_called(gateway, worker, people, calls):
    gateway.error = ConnectionError("nobody there")
    fail_until_closed(worker, people)
    called = len(calls)
    with worker.commit():
        receive("ping", people(1)[0])
    worker.work()
    reply = Message.objects.get(text="pong")
    assert (reply.status, statuses(reply), len(calls)) == ("P", "Q", called)
    # and is the first to be sent
    gateway.error = None
    let_time_pass(10_000)
    BackendState.objects.update(line=True)
    ring_later(gates.resume(Backend.objects.get()))
    worker.work()
    assert calls[called].text == "pong" or calls[called + 1].text == "pong"


def test_numbers_that_are_refused_by_name_are_no_reason(
    gateway, worker, people, calls, installed_backends
):
    everyone = people(5)
    refused = [person.identity for person in everyone]
    refusing = {"ENGINE": "tests.service.backends.RefusingBackend", "refuses": refused}
    installed_backends["phones"] = refusing | {"router.db.max_retries": 1}
    message = broadcast(worker, everyone)
    for task in worker.work():
        let_time_pass(10_000)
        worker.run(task)
    assert (statuses(message), len(calls)) == ("EEEEE", 10)
    assert not message.transmissions.filter(next_try__isnull=False).exists()
    assert not BackendState.objects.exists()


def test_failures_with_something_sent_between_them_are_no_reason(gateway, worker, people, calls):
    for _ in range(2 * gates.FAILURES):
        gateway.error = ConnectionError("stumbled")
        broadcast(worker, people(1))
        worker.work()
        gateway.error = None
        with worker.commit():
            receive("ping", people(1)[0])
        worker.work()
    assert len(calls) == 4 * gates.FAILURES
    assert not state().hinders


def test_another_backend_goes_on(gateway, worker, people, calls, installed_backends):
    installed_backends["other"] = {"ENGINE": RecordingBackend}
    gateway.error = ConnectionError("nobody there")
    fail_until_closed(worker, people)
    message = broadcast(worker, people(5, "other"))
    worker.work()
    assert statuses(message) == "SSSSS"


def test_a_lost_task_is_found_by_recovery(gateway, worker, people, calls):
    gateway.error = ConnectionError("nobody there")
    message, _lost = fail_until_closed(worker, people)
    gateway.error = None
    let_time_pass(10_000)
    for _ in range(20):
        Batch.objects.filter(due__isnull=False).update(due=now())
        Message.objects.filter(due__isnull=False).update(due=now())
        recover()
        worker.work()
    message.refresh_from_db()
    assert message.status == "S"


@pytest.mark.parametrize(
    "error", [RetryLater("busy", 300), http_error(429, **{"Retry-After": "300"})]
)
def test_a_gateway_is_left_alone_for_as_long_as_it_says(gateway, worker, people, calls, error):
    gateway.error = error
    message, tasks = fail_until_closed(worker, people)
    assert len(calls) == 1
    assert statuses(message) == 10 * "Q"
    assert timedelta(seconds=290) < state().closed_until - now() <= timedelta(seconds=300)
    gateway.error = None
    let_time_pass(300)
    while tasks:
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
    assert statuses(message) == 10 * "S"
    assert {row.attempts for row in message.transmissions.all()} == {1}


def test_no_task_waits_in_a_worker_for_longer_than_brokers_let_it(gateway, worker, people, calls):
    gateway.error = RetryLater("busy", 3 * 3600)
    message, tasks = fail_until_closed(worker, people)
    assert tasks == []
    (told,) = Batch.objects.told()
    assert told.due == state().closed_until
    gateway.error = None
    let_time_pass(3 * 3600)
    Batch.objects.filter(pk=told.pk).update(due=now())
    recover()
    assert worker.work() == []
    assert statuses(message) == 10 * "S"


def test_a_retry_that_is_far_away_is_left_to_recovery(gateway, worker, people, settings):
    settings.DB_ROUTER_RETRY_BACKOFF = 3000
    gateway.error = ConnectionError("stumbled")
    message, tasks = fail_until_closed(worker, people, 1)
    assert tasks == []
    gateway.error = None
    let_time_pass(10_000)
    Batch.objects.update(due=now())
    recover()
    worker.work()
    assert statuses(message) == "S"


# What is permanent


def test_what_is_permanent_is_not_tried_again(gateway, worker, people, calls):
    gateway.error = PermanentSendingError("barred")
    message = broadcast(worker, people(5))
    assert worker.work() == []
    assert (statuses(message), len(calls)) == ("EEEEE", 5)
    for row in message.transmissions.all():
        assert (row.error, row.next_try) == ("PermanentSendingError: barred", None)
    # the gateway has answered: it is not left alone
    assert not BackendState.objects.filter(closed_until__isnull=False).exists()


def test_bad_numbers_in_one_call_are_found_and_the_rest_is_sent(
    gateway, worker, people, calls, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    gateway.bad = ("+254700000003", "+254700000077")
    message = broadcast(worker, people(100))
    assert worker.work() == []
    errored = message.transmissions.filter(status="E")
    assert sorted(row.connection.identity for row in errored) == sorted(gateway.bad)
    for row in errored:
        assert (row.error, row.next_try, row.attempts) == ("HTTPError: bad: 1", None, 1)
    assert message.transmissions.filter(status="S").count() == 98
    assert len(calls) < 40
    taken = [
        i for call in calls if not set(call.identities) & set(gateway.bad) for i in call.identities
    ]
    assert len(taken) == len(set(taken)) == 98


def test_a_gateway_that_refuses_everybody_is_not_asked_for_each(
    gateway, worker, people, calls, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    gateway.error = http_error(400, "bad text")
    message = broadcast(worker, people(200))
    assert worker.work() == []
    assert statuses(message) == 200 * "E"
    assert len(calls) <= 2 * delivery.MOST_REFUSED


def test_reasons_are_kept_for_each(gateway, worker, people, settings, monkeypatch):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    first, second, third, fourth = people(4)

    def answer(self, **_):
        return {
            first.identity: "id-1",
            second.identity: PermanentSendingError("no such number"),
            third.identity: MessageSendingError("switched off"),
        }

    monkeypatch.setattr(Gateway, "send", answer)
    message = broadcast(worker, [first, second, third, fourth])
    (retry,) = worker.work()
    rows = {row.connection: row for row in message.transmissions.all()}
    assert [rows[person].status for person in (first, second, third, fourth)] == list("SEES")
    assert rows[second].error == "PermanentSendingError: no such number"
    assert rows[third].error == "MessageSendingError: switched off"
    assert (rows[second].next_try, rows[third].next_try is None) == (None, False)
    assert retry.kwargs["transmission_ids"] == [rows[third].pk]


# A rate


def test_a_rate_lets_one_batch_go_and_puts_off_the_next(options, worker, people, calls):
    options["router.db.rate"] = "60/m"
    broadcast(worker, people(5))
    tasks = worker.work()
    assert len(calls) == 1
    assert len(tasks) == 1
    assert timedelta(0) < state().free_at - now() <= timedelta(seconds=1)


def test_batches_are_no_larger_than_a_second_of_the_rate(options, worker, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    options["router.db.rate"] = "20/s"
    message = broadcast(worker, people(50))
    assert sorted(len(b.transmission_ids) for b in message.batches.all()) == [10, 20, 20]
    long = broadcast(worker, people(50), "x" * 161)
    assert {len(batch.transmission_ids) for batch in long.batches.all()} == {10}


@pytest.mark.parametrize(("text", "segments"), [("short", 1), ("x" * 161, 2), ("ж" * 135, 3)])
def test_a_rate_counts_segments(options, worker, people, text, segments, time_stands_still):
    options["router.db.rate"] = "1/s"
    broadcast(worker, people(3), text)
    worker.work()
    assert state().free_at - time_stands_still == timedelta(seconds=segments)


def test_a_rate_is_kept_by_all_together_and_everything_is_sent(
    options, worker, people, calls, time_stands_still
):
    options["router.db.rate"] = "2/s"
    messages = [broadcast(worker, people(4), text) for text in ("one", "two")]
    tasks, seconds = worker.work(), 0.0
    while tasks:
        assert len(tasks) <= 2  # those of the next second, however many wait
        before = len(calls)
        let_time_pass(0.5)
        seconds += 0.5
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
        assert len(calls) <= before + 1
    assert len(calls) == 8
    assert seconds == 3.5
    assert [statuses(message) for message in messages] == ["SSSS", "SSSS"]


def test_tasks_for_the_next_second_are_put_off_one_after_the_other(
    options, worker, people, calls, time_stands_still
):
    options["router.db.rate"] = "10/s"
    broadcast(worker, people(100))
    tasks = worker.work()
    for _ in range(3):
        before = len(calls)
        let_time_pass(1)
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
    dates = sorted(Batch.objects.told().values_list("called", flat=True))
    tenths = [(date - time_stands_still) / timedelta(seconds=0.1) for date in dates]
    assert tenths == pytest.approx(range(1, len(tasks) + 1), abs=0.01)
    assert {len(tasks), len(calls) - before} <= {9, 10}


def test_a_task_that_comes_too_early_goes_nowhere(options, worker, people, calls):
    options["router.db.rate"] = "1/m"
    broadcast(worker, people(3))
    (task,) = worker.work()
    worker.run(task)
    (again,) = worker.work()
    assert len(calls) == 1
    assert again.kwargs == task.kwargs


def test_who_comes_late_catches_up(options, worker, people, time_stands_still):
    options["router.db.rate"] = "1/s"
    broadcast(worker, people(4))
    (task,) = worker.work()
    let_time_pass(1.7)  # it should have come 0.7 s ago, and the next comes in 0.3 s
    worker.run(task)
    assert state().free_at - time_stands_still == timedelta(seconds=0.3)


def test_a_reply_goes_before_the_rest_of_a_broadcast(options, worker, people, calls):
    options["router.db.rate"] = "1/s"
    broadcast(worker, people(10))
    tasks = worker.work()
    with worker.commit():
        receive("ping", people(1)[0])
    tasks += worker.work()
    for _ in range(2):
        let_time_pass(1)
        worker.run(tasks.pop(0))
        tasks += worker.work()
    assert [call.text for call in calls] == ["news", "news", "pong"]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_rate_and_a_limit_of_those_in_flight_go_together(
    options, worker, people, calls, concurrency
):
    options |= {"router.db.rate": "100/s", "router.db.concurrency": concurrency}
    message = broadcast(worker, people(6))
    tasks = worker.work()
    while tasks:
        let_time_pass(1)
        for task in tasks:
            worker.run(task)
        tasks = worker.work()
    assert (statuses(message), len(calls)) == ("SSSSSS", 6)


# Pausing


def test_a_paused_backend_is_not_called_and_a_resumed_one_is(gateway, worker, people, calls):
    backend = people(1)[0].backend
    gates.pause(backend)
    message = broadcast(worker, people(10))
    with worker.commit():
        receive("ping", people(1)[0])
    assert worker.work() == []
    assert (calls, statuses(message)) == ([], 10 * "Q")
    Message.objects.filter(due__isnull=False).update(due=now())
    recover()
    assert worker.work() == []
    assert calls == []
    ring_later(gates.resume(backend))
    assert worker.work() == []
    assert (len(calls), statuses(message)) == (11, 10 * "S")
    assert not Batch.objects.exists()
    assert not state().hinders


def test_pausing_lets_others_be(gateway, worker, people, installed_backends):
    installed_backends["other"] = {"ENGINE": RecordingBackend}
    gates.pause(people(1)[0].backend)
    message = broadcast(worker, people(3, "other"))
    worker.work()
    assert statuses(message) == "SSS"


def test_to_resume_is_also_to_try_again_now(gateway, worker, people, calls):
    gateway.error = ConnectionError("nobody there")
    message, _ = fail_until_closed(worker, people)
    gateway.error = None
    Transmission.objects.filter(status="E").update(next_try=now())
    ring_later(gates.resume(Backend.objects.get()))
    worker.work()
    assert statuses(message).count("S") >= 7


# Nobody has to ask without a reason


def test_a_backend_without_limits_and_trouble_has_no_state(gateway, worker, people):
    broadcast(worker, people(5))
    worker.work()
    assert not BackendState.objects.exists()
