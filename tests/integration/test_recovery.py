"""Recovery finds what was lost, has it done, and leaves alone what is not lost."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from rapidsms.router import receive, send

from rapidsms_db_router import delivery, recovery
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.delivery import WINDOW
from rapidsms_db_router.models import Batch, Message, RecoveryTurn, Transmission
from rapidsms_db_router.recovery import LONGEST_PATIENCE, OUTCOME_UNKNOWN, RecoveryStep, recover
from rapidsms_db_router.tasks import recover_messages
from tests.concurrency.parallel import in_threads
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

NOTHING = recovery.Found().counts()
#: What is waited for has come by then, in seconds.
PATIENCE = 30


def found(**counts):
    return {**NOTHING, **counts}


def let_dates_pass():
    """Move all dates of unfinished work into the past."""
    past = now() - timedelta(seconds=1)
    for model in (Message, Batch):
        model.objects.filter(due__isnull=False).update(due=past)
    Transmission.objects.filter(next_try__isnull=False).update(next_try=past)


def stored_inbound(worker, person, text="ping"):
    """Return an inbound message that a worker was told of."""
    with worker.commit():
        return receive(text, person).dbm


def stored_outbound(worker, connections):
    """Return an outbound message that workers were told of."""
    with worker.commit():
        return send("news", connections).database_message


def taken_by_the_dead(batch):
    """Have a worker take a batch, and die."""
    claim = uuid.uuid4()
    assert Batch.objects.take(batch.pk, claim)
    return Transmission.objects.take(claim, batch.message_id, batch.transmission_ids)


def statuses(message):
    message.refresh_from_db()
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status + "".join(rows)


def assert_done(message, expected):
    assert statuses(message) == expected
    assert message.due is None
    assert not message.batches.exists()


def everything():
    """Return every column of every row that recovery might change."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (Message, Batch, Transmission, RecoveryTurn)
    ]


# What is found


def test_a_batch_that_nobody_was_told_of_is_sent(worker, people, calls):
    message = stored_outbound(worker, people(3))
    worker.take()
    let_dates_pass()
    assert recover().counts() == found(batches=1)
    assert worker.work() == []
    assert len(calls) == 1
    assert_done(message, "SSSS")


def test_a_batch_whose_worker_died_is_sent_again(worker, people, calls):
    message = stored_outbound(worker, people(3))
    worker.take()
    taken_by_the_dead(message.batches.get())
    assert statuses(message) == "PPPP"
    let_dates_pass()
    assert recover().counts() == found(batches=1, resent=3)
    assert statuses(message) == "PQQQ"
    worker.work()
    assert len(calls) == 1
    assert_done(message, "SSSS")
    assert set(message.transmissions.values_list("attempts", flat=True)) == {2}


def test_a_batch_whose_worker_died_is_given_up_where_nobody_may_get_it_twice(
    worker, people, calls, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    message = stored_outbound(worker, people(3))
    worker.take()
    taken_by_the_dead(message.batches.get())
    let_dates_pass()
    assert recover().counts() == found(batches=1, given_up=3)
    assert statuses(message) == "EEEE"
    worker.work()
    assert calls == []
    assert_done(message, "EEEE")
    rows = message.transmissions.values_list("error", "next_try", "claim")
    assert set(rows) == {(OUTCOME_UNKNOWN, None, None)}


def test_what_its_worker_had_taken_and_not_begun_is_sent_even_if_nobody_may_get_it_twice(
    worker, people, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    message = stored_outbound(worker, people(3))
    worker.take()
    assert Batch.objects.take(message.batches.get().pk, uuid.uuid4())
    let_dates_pass()
    assert recover().counts() == found(batches=1)
    worker.work()
    assert_done(message, "SSSS")


@pytest.fixture
def reply(worker, person, monkeypatch):
    """A reply that was stored by a worker which died before it could send it."""
    with monkeypatch.context() as dying:
        dying.setattr(delivery.Replies, "send", lambda replies: iter(()))
        stored_inbound(worker, person)
        worker.work()
    reply = Message.objects.get(direction=Direction.OUTGOING)
    assert statuses(reply) == "PP"
    return reply


def test_a_reply_that_its_worker_is_sending_is_left_to_it(worker, reply):
    before = everything()
    assert recover().counts() == NOTHING
    assert everything() == before


def test_a_reply_whose_worker_died_is_sent(worker, reply, calls):
    let_dates_pass()
    before = everything()
    assert recover(dry_run=True).counts() == found(resent=1)
    assert everything() == before
    with worker.commit():
        assert recover().counts() == found(resent=1)
    worker.work()
    assert [call.text for call in calls] == ["pong"]
    assert_done(reply, "SS")
    assert reply.claim is None


def test_a_reply_whose_worker_died_is_given_up_where_nobody_may_get_it_twice(
    worker, reply, calls, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    let_dates_pass()
    assert recover().counts() == found(given_up=1)
    worker.work()
    assert calls == []
    assert_done(reply, "EE")
    assert set(reply.transmissions.values_list("error", "claim")) == {(OUTCOME_UNKNOWN, None)}


def test_a_reply_that_was_sent_by_a_worker_that_died_then_is_s(worker, reply, calls):
    Transmission.objects.filter(message=reply).update(status=Status.SENT, claim=None)
    let_dates_pass()
    recover()
    assert worker.work() == calls == []
    assert_done(reply, "SS")


def test_a_retry_that_the_broker_forgot_is_made(worker, people, calls, installed_backends):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    installed_backends["phones"]["failures"] = 1
    message = stored_outbound(worker, people(3))
    (forgotten,) = worker.work()
    assert forgotten.name == "send_transmissions"
    batch = message.batches.get()
    next_try = max(message.transmissions.values_list("next_try", flat=True))
    assert batch.due > next_try
    assert recover().counts() == NOTHING
    let_dates_pass()
    assert recover().counts() == found(batches=1)
    worker.work()
    assert len(calls) == 2
    assert_done(message, "SSSS")


def test_an_inbound_message_that_nobody_was_told_of_is_processed(worker, person, received):
    message = stored_inbound(worker, person)
    worker.take()
    let_dates_pass()
    assert recover().inbound == 1
    worker.work()
    assert len(received) == 1
    assert_done(message, "RR")
    assert_done(message.responses.get(), "SS")


def test_an_inbound_message_whose_worker_died_is_processed_again(worker, person):
    message = stored_inbound(worker, person)
    worker.take()
    claim = Message.objects.take_inbound(message.pk)
    let_dates_pass()
    assert recover().counts() == found(inbound=1)
    # should it be alive after all, it changes nothing now
    assert not Message.objects.finish_inbound(message.pk, claim, Status.RECEIVED)
    worker.work()
    assert_done(message, "RR")
    assert message.attempts == 2
    assert_done(message.responses.get(), "SS")


def test_a_status_that_no_longer_fits_is_set(worker, people):
    message = stored_outbound(worker, people(3))
    worker.take()
    message.batches.all().delete()
    message.transmissions.update(status=Status.SENT)
    assert statuses(message) == "PSSS"
    let_dates_pass()
    assert recover().counts() == found(statuses=1)
    assert_done(message, "SSSS")
    assert recover().counts() == NOTHING


def test_transmissions_that_are_in_no_batch_are_sent(worker, people):
    message = stored_outbound(worker, people(3))
    worker.take()
    message.batches.all().delete()
    let_dates_pass()
    with worker.commit():
        assert recover().counts() == found(statuses=1)
    worker.work()
    assert_done(message, "SSSS")


@pytest.mark.parametrize("store", [stored_inbound, stored_outbound])
def test_what_is_not_due_is_left_alone(worker, person, store):
    store(worker, person)
    before = everything()
    worker.take()
    assert recover().counts() == NOTHING
    assert everything() == before
    assert worker.take() == []


# How it is asked for


@pytest.fixture
def some_of_each(worker, people, installed_backends):
    """Lost work of every kind."""
    installed_backends["radios"] = {
        **installed_backends["phones"],
        "router.db.after_crash": "error",
    }
    stored_inbound(worker, people(1)[0])
    stored_outbound(worker, people(2))
    dead = stored_outbound(worker, [*people(2), *people(3, "radios")])
    for batch in dead.batches.all():
        taken_by_the_dead(batch)
    done = stored_outbound(worker, people(4))
    done.batches.all().delete()
    done.transmissions.update(status=Status.SENT)
    worker.take()
    let_dates_pass()
    return found(inbound=1, batches=3, resent=2, given_up=3, statuses=1)


def test_a_dry_run_counts_the_same_and_changes_nothing(worker, some_of_each):
    before = everything()
    assert recover(dry_run=True).counts() == some_of_each
    assert everything() == before
    assert worker.take() == []
    assert recover().counts() == some_of_each
    assert everything() != before


def test_the_command_recovers_and_prints_what_it_found(worker, some_of_each, capsys):
    printed = "inbound: 1\nbatches: 3\nresent: 2\ngiven up: 3\nstatuses: 1\n"
    call_command("recover_messages", "--dry-run")
    assert capsys.readouterr().out == printed
    assert worker.take() == []
    call_command("recover_messages")
    assert capsys.readouterr().out == printed
    assert len(worker.take()) == 4
    call_command("recover_messages")
    assert capsys.readouterr().out == re.sub(r"\d", "0", printed)


def test_the_task_recovers(worker, people):
    message = stored_outbound(worker, people(3))
    worker.take()
    let_dates_pass()
    recover_messages.delay()
    worker.work()
    assert_done(message, "SSSS")


# Broadcasts


@pytest.fixture
def broadcast(worker, people, settings, monkeypatch):
    """A message to a hundred people, one in each batch, of whose first workers were told."""
    # neither so fast that a batch gives two others their turn, nor so slow that it gives none
    monkeypatch.setattr(delivery, "SHORT_WAIT", 0)
    monkeypatch.setattr(delivery, "LONG_WAIT", float("inf"))
    monkeypatch.setattr(delivery, "MOMENT", 0)
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    return stored_outbound(worker, people(100))


def test_all_batches_are_sent_though_few_are_told_of_at_a_time(worker, broadcast, calls):
    told = worker.take()
    assert len(told) == WINDOW
    while told:
        worker.run(told.pop(0))
        told += worker.take()
        assert len(told) <= WINDOW
        assert len(told) == broadcast.batches.told().count()
    assert_done(broadcast, "S" * 101)
    assert Counter(call.identities[0] for call in calls).most_common(1)[0][1] == 1


def test_each_backend_has_batches_under_way(worker, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    connections = [*people(20), *people(3, "radios")]
    message = stored_outbound(worker, connections)
    told = Counter(task.kwargs["backend_id"] for task in worker.take())
    assert told == {connections[0].backend_id: WINDOW, connections[-1].backend_id: 3}
    assert message.batches.told().count() == WINDOW + 3


def test_a_broadcast_in_progress_is_not_told_of_again(worker, broadcast):
    in_queue = worker.take()
    for _ in range(20):
        assert recover().counts() == NOTHING
    assert worker.take() == []
    # two come to an end, slowly, and two others get their turn
    worker.run(in_queue.pop(0))
    worker.run(in_queue.pop(0))
    assert len(worker.take()) == 2
    for _ in range(20):
        assert recover().counts() == NOTHING
    assert worker.take() == []


def test_a_broadcast_that_seems_lost_is_told_of_with_doubling_patience(worker, broadcast, settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 300
    worker.take()
    for patience in (600, 1200, 2400, LONGEST_PATIENCE, LONGEST_PATIENCE):
        let_dates_pass()
        for _ in range(20):
            recover()
        assert len(worker.take()) == WINDOW
        for batch in broadcast.batches.told():
            assert (batch.due - now()).total_seconds() == pytest.approx(patience, abs=10)


def test_patience_begins_anew_once_a_batch_is_taken(worker, broadcast, settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 300
    worker.take()
    for _ in range(3):
        let_dates_pass()
        recover()
    batch = broadcast.batches.told().first()
    taken_by_the_dead(batch)
    batch.refresh_from_db()
    assert (batch.due - now()).total_seconds() == pytest.approx(300, abs=10)
    assert batch.calls == 0


def test_an_inbound_message_that_seems_lost_is_told_of_with_doubling_patience(
    worker, person, settings
):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 300
    message = stored_inbound(worker, person)
    worker.take()
    for patience in (300, 600, 1200, 2400, LONGEST_PATIENCE):
        let_dates_pass()
        for _ in range(20):
            recover()
        assert len(worker.take()) == 1
        message.refresh_from_db()
        assert (message.due - now()).total_seconds() == pytest.approx(patience, abs=10)


def test_a_copy_of_a_task_gives_nobody_a_turn(worker, broadcast, calls):
    task = worker.take()[0]
    for _ in range(4):
        worker.run(task)
    assert len(calls) == 1
    assert len(worker.take()) == 1


def test_a_batch_that_is_tried_again_gives_one_turn(worker, broadcast, installed_backends):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    first = worker.take()[0]
    worker.run(first)
    published = worker.take()
    (retry,) = [task for task in published if task.eta]
    assert len(published) == 2
    let_dates_pass()
    worker.run(retry)
    (again,) = worker.take()
    assert again.eta


def test_a_batch_that_is_recovered_gives_one_turn(worker, broadcast):
    worker.take()
    taken_by_the_dead(broadcast.batches.told().first())
    let_dates_pass()
    recover()
    published = worker.take()
    assert len(published) == WINDOW
    worker.run(published[0])
    assert len(worker.take()) == 1
    worker.run(published[0])
    assert worker.take() == []


def test_the_admin_sends_again_in_planned_batches(worker, broadcast, admin_client, calls):
    worker.take()
    broadcast.batches.all().delete()
    broadcast.transmissions.update(status=Status.ERRORED, error="refused")
    broadcast.set_status()
    assert_done(broadcast, "E" * 101)

    with worker.commit():
        page = reverse("admin:rapidsms_db_router_message_changelist")
        chosen = {"action": "resend", "_selected_action": [broadcast.pk]}
        assert admin_client.post(page, chosen).status_code == 302
    assert broadcast.batches.count() == 100
    assert broadcast.batches.told().count() == WINDOW
    worker.take()  # and the broker forgets
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 100
    assert_done(broadcast, "S" * 101)


# In a worker


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("before", ["never", "long ago"])
def test_of_many_workers_one_has_the_turn(before):
    if before == "long ago":
        RecoveryTurn.objects.create(pk=1, due=now() - timedelta(days=1))
    turns = in_threads(*[RecoveryTurn.objects.take] * 4)
    assert turns.count(True) == 1
    assert RecoveryTurn.objects.count() == 1


@pytest.fixture
def running(settings):
    """A function that starts the recovery of a worker; it is stopped in the end."""
    steps = []

    def running(interval):
        settings.DB_ROUTER_RECOVERY_INTERVAL = interval
        steps.append(RecoveryStep(None))
        steps[0].start(None)

    yield running
    for step in steps:
        step.stop(None)
        assert not step._thread.is_alive()


def wait_until(condition, meanwhile):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.05)


@pytest.mark.django_db(transaction=True)
def test_a_worker_recovers_by_itself_also_after_an_error(worker, people, running, monkeypatch):
    failed = []
    first = recovery.recover

    def failing_first():
        if failed:
            return first()
        failed.append(True)
        raise ConnectionError("the database is away")

    monkeypatch.setattr(recovery, "recover", failing_first)
    message = stored_outbound(worker, people(3))
    worker.take()
    let_dates_pass()
    running(interval=0.1)
    wait_until(lambda: statuses(message) == "SSSS", meanwhile=worker.work)
    assert failed


@pytest.mark.django_db(transaction=True)
def test_a_worker_has_all_inbound_messages_processed_at_once_after_the_broker_forgot_them(
    worker, person, running, monkeypatch
):
    monkeypatch.setattr(recovery, "MOST", 2)
    for n in range(7):
        stored_inbound(worker, person, f"hello {n}")
    worker.take()
    let_dates_pass()
    inbound = Message.objects.filter(direction=Direction.INCOMING)
    running(interval=10 * PATIENCE)
    waiting = inbound.exclude(status=Status.RECEIVED)
    wait_until(lambda: not waiting.exists(), meanwhile=worker.work)


@pytest.mark.django_db(transaction=True)
def test_a_worker_adds_nothing_to_a_queue_that_is_slow(worker, person, running, monkeypatch):
    monkeypatch.setattr(recovery, "MOST", 2)
    for n in range(7):
        stored_inbound(worker, person, f"hello {n}")
    worker.take()
    let_dates_pass()
    told = []

    def interval_is_over():
        return RecoveryTurn.objects.filter(due__lt=now()).exists()

    running(interval=2)
    wait_until(interval_is_over, meanwhile=lambda: told.extend(worker.take()))
    assert len(told) == 2


class TakenOver(RecordingBackend):
    """A backend so slow that its worker counts as dead before it answers."""

    def send(self, **kwargs):
        """Have recovery take the batch away in the middle of the call."""
        super().send(**kwargs)
        let_dates_pass()
        recover()


def test_a_worker_whose_batch_was_taken_over_gives_no_turn(
    worker, people, installed_backends, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    installed_backends["phones"] = {"ENGINE": TakenOver}
    message = stored_outbound(worker, people(WINDOW + 2))
    worker.run(worker.take()[0])
    assert message.batches.told().count() == WINDOW
