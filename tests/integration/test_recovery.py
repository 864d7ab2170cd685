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
from rapidsms.apps.base import AppBase
from rapidsms.router import receive, send

from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, RecoverySchedule, SlotLease, Transmission
from rapidsms_db_router.outbound.failure import OUTCOME_UNKNOWN
from rapidsms_db_router.outbound.sender import Sender
from rapidsms_db_router.recovery import Found, recover, rescue, step
from rapidsms_db_router.recovery.rescue import LONGEST_PATIENCE, MOST
from rapidsms_db_router.signals import transmissions_errored
from rapidsms_db_router.tasks import recover_messages
from rapidsms_db_router.worker import host
from tests.concurrency.parallel import in_threads
from tests.integration.acting import act
from tests.integration.executors import SlowGateway
from tests.service.backends import RecordingBackend, RefusingBackend

pytestmark = pytest.mark.django_db

NOTHING = Found().counts()
#: What is waited for has come by then, in seconds.
PATIENCE = 30


def found(**counts):
    return {**NOTHING, **counts}


def let_dates_pass():
    """Move all dates of unfinished work into the past."""
    past = now() - timedelta(seconds=5)
    SlotLease.objects.update(expires_at=past)
    for model in (Message, Batch):
        model.objects.filter(recover_at__isnull=False).update(recover_at=past)
    Batch.objects.filter(claim_token=None).update(ready_at=past)
    Transmission.objects.filter(next_try__isnull=False).update(next_try=past)


def stored_inbound(worker, person, text="ping"):
    """Return an inbound message whose task is published."""
    with worker.commit():
        return receive(text, person).dbm


def stored_outbound(worker, connections):
    """Return an outbound message whose doorbells are published."""
    with worker.commit():
        return send("news", connections).database_message


def sender_that_dies(*backends):
    """Return a sender that has claimed what it could, and started its calls; nobody steps it."""
    sender = Sender(SlowGateway())
    for backend in backends:
        sender.wake(backend)
    sender.step()
    return sender


def statuses(message):
    message.refresh_from_db()
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status + "".join(rows)


def assert_done(message, expected):
    assert statuses(message) == expected
    assert message.recover_at is None
    assert not message.batches.exists()


def everything():
    """Return every column of every row that recovery might change."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (Message, Batch, Transmission, RecoverySchedule)
    ]


# What is found


def test_a_batch_whose_doorbell_was_lost_is_sent(worker, people, calls):
    message = stored_outbound(worker, people(3))
    worker.take()
    let_dates_pass()
    assert recover().counts() == found(batches=1)
    worker.work()
    assert len(calls) == 1
    assert_done(message, "SSSS")


def test_a_batch_whose_sender_died_is_sent_again(worker, people, person, calls):
    message = stored_outbound(worker, people(3))
    worker.take()
    sender_that_dies(person.backend)
    assert statuses(message) == "PPPP"
    let_dates_pass()
    # the batch, and then the backend that has one to be claimed
    assert recover().counts() == found(batches=1, resent=3)
    assert statuses(message) == "PQQQ"
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 1
    assert_done(message, "SSSS")
    assert set(message.transmissions.values_list("attempts", flat=True)) == {2}


def test_a_batch_whose_sender_died_is_given_up_where_nobody_may_get_it_twice(
    worker, people, person, calls, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    message = stored_outbound(worker, people(3))
    worker.take()
    sender_that_dies(person.backend)
    let_dates_pass()
    assert recover().counts() == found(batches=1, given_up=3)
    assert statuses(message) == "EEEE"
    let_dates_pass()
    recover()
    worker.work()
    assert calls == []
    assert_done(message, "EEEE")
    rows = message.transmissions.values_list("error", "next_try")
    assert set(rows) == {(OUTCOME_UNKNOWN, None)}


def test_what_a_dead_sender_had_not_called_is_sent_even_where_nobody_may_get_it_twice(
    worker, people, person, calls, installed_backends
):
    installed_backends["phones"] |= {
        "router.db.after_crash": "error",
        "router.db.concurrency": 1,
        "router.db.batch_size": 1,
    }
    message = stored_outbound(worker, people(3))
    worker.take()
    sender_that_dies(person.backend)
    assert statuses(message) == "PPQQ"
    let_dates_pass()
    assert recover().counts() == found(batches=1, given_up=1)
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 2
    assert_done(message, "EESS")


@pytest.fixture(params=["claimed", "in flight"])
def reply(request, worker, person, monkeypatch):
    """A reply that was stored by a process which then died, before or after it called."""
    dead = Sender(SlowGateway())
    with monkeypatch.context() as dying:
        dying.setattr(host, "_stepped", dead)
        stored_inbound(worker, person)
        worker.work()
    if request.param == "in flight":
        dead.step()
    reply = Message.objects.get(direction=Direction.OUTGOING)
    assert statuses(reply) == ("PP" if request.param == "in flight" else "PQ")
    return reply


def test_a_reply_that_its_sender_is_sending_is_left_to_it(worker, reply):
    before = everything()
    assert recover().counts() == NOTHING
    assert everything() == before


def test_a_reply_whose_sender_died_is_sent(worker, reply, calls):
    in_flight = reply.transmissions.filter(status=Status.PROCESSING).count()
    let_dates_pass()
    before = everything()
    assert recover(dry_run=True).counts() == found(batches=1, resent=in_flight)
    assert everything() == before
    assert recover().counts() == found(batches=1, resent=in_flight)
    let_dates_pass()
    recover()
    worker.work()
    assert [call.text for call in calls] == ["pong"]
    assert_done(reply, "SS")


def test_a_reply_in_flight_whose_sender_died_is_given_up_where_nobody_may_get_it_twice(
    worker, reply, calls, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    in_flight = reply.transmissions.filter(status=Status.PROCESSING).count()
    let_dates_pass()
    assert recover().counts() == found(batches=1, given_up=in_flight)
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 1 - in_flight
    assert_done(reply, "EE" if in_flight else "SS")
    if in_flight:
        assert reply.transmissions.get().error == OUTCOME_UNKNOWN


def test_a_reply_that_a_report_calls_sent_before_its_sender_died_is_not_sent_again(
    worker, reply, calls
):
    Transmission.objects.filter(message=reply).update(status=Status.SENT)
    for _ in range(2):
        let_dates_pass()
        recover()
        worker.work()
    assert calls == []
    assert_done(reply, "SS")


def test_a_retry_that_no_sender_looks_for_is_made(worker, people, calls, installed_backends):
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.FailingBackend"}
    installed_backends["phones"]["failures"] = 1
    message = stored_outbound(worker, people(3))
    worker.work()
    worker.sender.lanes.clear()  # another process, which remembers nothing
    assert recover().counts() == NOTHING
    let_dates_pass()
    assert recover().batches == 1
    worker.work()
    assert len(calls) == 2
    assert_done(message, "SSSS")


def test_an_inbound_message_whose_task_was_lost_is_processed(worker, person, received):
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
    token = uuid.uuid4()
    assert engine().claim_inbound(message.pk, token)
    let_dates_pass()
    assert recover().counts() == found(inbound=1)
    # should it be alive after all, it changes nothing now
    assert not engine().finish_inbound(message.pk, token, Status.RECEIVED)
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
    assert recover().statuses == 1
    let_dates_pass()
    recover()
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


class TakenOver(RecordingBackend):
    """A backend so slow that its sender counts as dead before it answers."""

    def send(self, **kwargs):
        """Have recovery take the batch away in the middle of the call."""
        super().send(**kwargs)
        let_dates_pass()
        recover()


def test_what_a_sender_sent_after_its_batch_was_taken_away_is_not_sent_again(
    worker, people, installed_backends, calls
):
    installed_backends["phones"] = {"ENGINE": TakenOver}
    message = stored_outbound(worker, people(3))
    worker.work()
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 1
    assert_done(message, "SSSS")


class TakenOverAndRefused(RefusingBackend):
    """The same, and it refuses some."""

    def send(self, **kwargs):
        """Have recovery take the batch away, then name the refused."""
        let_dates_pass()
        recover()
        super().send(**kwargs)


def test_a_failure_after_the_batch_was_taken_away_changes_nothing(
    worker, people, installed_backends, calls
):
    first, second = people(2)
    refusing = {"ENGINE": TakenOverAndRefused, "refuses": [first.identity]}
    installed_backends["phones"] = {**refusing, "router.db.after_crash": "error"}
    message = stored_outbound(worker, [first, second])
    worker.work()
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 1
    # the gateway took the second one; about the first recovery had decided
    assert statuses(message)[1] == "E"
    assert message.transmissions.get(connection=first).error == OUTCOME_UNKNOWN


# What kills each worker is given up


class Died(BaseException):
    """The end of a process."""


@pytest.fixture
def killing(settings):
    """An app that ends its process; how often it was started."""
    starts = []

    class Killing(AppBase):
        def handle(self, msg):
            starts.append(msg.text)
            raise Died

    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[Killing], backends={})
    return starts


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("retries", [0, 2])
def test_an_inbound_message_that_kills_its_worker_each_time_is_given_up(
    worker, person, settings, killing, atomic, retries
):
    settings.DB_ROUTER_MAX_RETRIES = retries
    settings.DB_ROUTER_ATOMIC_RECEIVE = atomic
    message = stored_inbound(worker, person, "deadly")
    (task,) = worker.take()
    for _ in range(1 + retries):
        with pytest.raises(Died):
            worker.run(task)
        assert statuses(message) == "QQ"
        let_dates_pass()
        assert recover().inbound == 1
        (task,) = worker.take()
    worker.run(task)
    assert killing == ["deadly"] * (1 + retries)
    assert_done(message, "EE")
    assert message.error == f"worker died {1 + retries} times"
    let_dates_pass()
    assert recover().counts() == NOTHING
    assert worker.take() == []


@pytest.mark.django_db(transaction=True)
def test_an_inbound_message_that_was_given_up_may_be_processed_again(
    worker, person, settings, killing, admin_client
):
    settings.DB_ROUTER_MAX_RETRIES = 0
    message = stored_inbound(worker, person)
    with pytest.raises(Died):
        worker.work()
    let_dates_pass()
    recover()
    worker.work()
    assert_done(message, "EE")
    settings.RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
    page = reverse("admin:rapidsms_db_router_message_changelist")
    act(admin_client, page, "reprocess", message.pk)
    worker.work()
    assert_done(message, "RR")
    assert message.error == ""


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_batch_that_kills_its_worker_each_time_is_given_up(
    worker, people, person, settings, calls, atomic, retries
):
    settings.DB_ROUTER_MAX_RETRIES = retries
    settings.DB_ROUTER_ATOMIC_RECEIVE = atomic
    message = stored_outbound(worker, people(3))
    for n in range(1 + retries):
        sender_that_dies(person.backend)
        assert statuses(message) == "PPPP", n
        let_dates_pass()
        recover()
    assert statuses(message) == "EEEE"
    rows = message.transmissions.values_list("error", "next_try", "attempts")
    assert set(rows) == {("worker died in the last try", None, 1 + retries)}
    let_dates_pass()
    recover()
    worker.work()
    assert calls == []
    assert_done(message, "EEEE")


def test_what_was_not_in_flight_when_a_worker_died_is_not_given_up(
    worker, people, person, settings, calls, installed_backends
):
    settings.DB_ROUTER_MAX_RETRIES = 0
    installed_backends["phones"] |= {"router.db.concurrency": 1, "router.db.batch_size": 1}
    message = stored_outbound(worker, people(3))
    for _ in range(2):
        sender_that_dies(person.backend)
        let_dates_pass()
        recover()
    worker.work()
    assert_done(message, "EEES")
    assert len(calls) == 1


# How it is asked for


@pytest.fixture
def each_kind(worker, people, installed_backends, monkeypatch):
    """Lost work of every kind."""
    # what recovery releases has lost no doorbell yet, however slow the test is
    monkeypatch.setattr(rescue, "GRACE", 600)
    installed_backends["radios"] = {
        **installed_backends["phones"],
        "router.db.after_crash": "error",
    }
    dead = [*people(2), *people(3, "radios")]
    stored_outbound(worker, dead)
    sender_that_dies(dead[0].backend, dead[-1].backend)
    stored_inbound(worker, people(1)[0])
    done = stored_outbound(worker, people(4))
    done.batches.all().delete()
    done.transmissions.update(status=Status.SENT)
    installed_backends["pagers"] = installed_backends["phones"]
    stored_outbound(worker, people(2, "pagers"))
    worker.take()
    let_dates_pass()
    unclaimed = Batch.objects.filter(claim_token=None)
    unclaimed.update(ready_at=now() - timedelta(hours=1))
    return found(inbound=1, batches=3, resent=2, given_up=3, statuses=1)


def test_a_dry_run_counts_the_same_and_changes_nothing(worker, each_kind):
    before = everything()
    assert recover(dry_run=True).counts() == each_kind
    assert everything() == before
    assert worker.take() == []
    assert recover().counts() == each_kind
    assert everything() != before


def test_a_dry_run_counts_all_and_a_look_does_no_more_than_its_share(worker, person, calls):
    Message.objects.bulk_create(
        Message(direction="I", text="ping", recover_at=now() - timedelta(hours=1))
        for _ in range(2 * MOST + 50)
    )
    message = stored_outbound(worker, [person])
    row = message.transmissions.get()
    Transmission.objects.filter(pk=row.pk).update(status=Status.PROCESSING)
    message.batches.all().delete()
    Batch.objects.bulk_create(
        Batch(
            message=message,
            backend=person.backend,
            transmission_ids=[row.pk] if number == 0 else [],
            claim_token=uuid.uuid4(),
            recover_at=now() - timedelta(seconds=number),
            ready_at=now() - timedelta(hours=1),
        )
        for number in range(MOST + 50)
    )
    assert recover(dry_run=True).counts() == found(
        inbound=2 * MOST + 50, batches=MOST + 50, resent=1
    )
    # once they are released, their backend has lost its doorbell
    assert recover().counts() == found(inbound=MOST, batches=MOST + 1)


def test_no_outbound_message_waits_behind_many_inbound_ones(worker, person):
    Message.objects.bulk_create(
        Message(direction="I", text="ping", recover_at=now() - timedelta(hours=1))
        for _ in range(2 * MOST)
    )
    expired = stored_outbound(worker, [person])
    past = now() - timedelta(seconds=5)
    Message.objects.filter(pk=expired.pk).update(expires_at=past, recover_at=past)
    message = stored_outbound(worker, [person])
    message.batches.all().delete()
    Message.objects.filter(pk=message.pk).update(recover_at=past)
    assert recover(dry_run=True).counts() == found(inbound=2 * MOST, statuses=1)
    assert recover().counts() == found(inbound=MOST, statuses=1)
    assert statuses(expired) == "EE"
    assert message.batches.count() == 1


@pytest.mark.parametrize("after_crash", ["resend", "error"])
def test_what_recovery_gives_up_is_told(worker, person, installed_backends, after_crash):
    installed_backends["phones"] |= {
        "router.db.after_crash": after_crash,
        "router.db.max_retries": 0,
    }
    told = []

    def receiver(signal, **named):
        told.append(named)

    message = stored_outbound(worker, [person])
    sender_that_dies(person.backend)
    let_dates_pass()
    transmissions_errored.connect(receiver)
    try:
        with worker.commit():
            recover()
    finally:
        transmissions_errored.disconnect(receiver)
    row = message.transmissions.get()
    ((named),) = told
    assert (named["message"], named["message"].status) == (message, "E")
    assert (named["transmission_ids"], named["backend_name"]) == ([row.pk], "phones")
    assert (named["error"], named["next_try"]) == (row.error, None)


def test_the_command_recovers_and_prints_what_it_found(worker, each_kind, capsys):
    printed = "inbound: 1\nbatches: 3\nresent: 2\ngiven up: 3\nstatuses: 1\nbulk actions: 0\n"
    call_command("recover_messages", "--dry-run")
    assert capsys.readouterr().out == printed
    assert worker.take() == []
    call_command("recover_messages")
    assert capsys.readouterr().out == printed
    names = Counter(task.name for task in worker.take())
    assert names == {"receive_async": 1, "send_transmissions": 1}
    worker.sender.wake(Batch.objects.first().backend)
    worker.step()
    for batch in Batch.objects.all():
        worker.sender.wake(batch.backend)
    worker.step()
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
def broadcast(worker, people, settings):
    """A message to a hundred people, one in each batch."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    return stored_outbound(worker, people(100))


def test_one_doorbell_has_all_batches_sent(worker, broadcast, calls):
    (doorbell,) = worker.take()
    assert broadcast.batches.count() == 100
    worker.run(doorbell)
    assert_done(broadcast, "S" * 101)
    assert Counter(call.identities[0] for call in calls).most_common(1)[0][1] == 1


def test_each_backend_has_a_doorbell(worker, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    connections = [*people(20), *people(3, "radios")]
    stored_outbound(worker, connections)
    published = Counter(task.kwargs["backend_id"] for task in worker.take())
    assert published == {connections[0].backend_id: 1, connections[-1].backend_id: 1}


def test_a_broadcast_that_waits_has_one_doorbell_a_look_and_no_more(worker, broadcast):
    worker.take()
    let_dates_pass()
    for _ in range(3):
        assert recover().counts() == found(batches=1)
        assert len(worker.take()) == 1


def test_a_copy_of_a_doorbell_sends_nothing_again(worker, broadcast, calls):
    (doorbell,) = worker.take()
    for _ in range(4):
        worker.run(doorbell)
    assert len(calls) == 100


def test_an_inbound_message_that_seems_lost_is_published_with_doubling_patience(
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
        assert (message.recover_at - now()).total_seconds() == pytest.approx(patience, abs=10)


def test_patience_begins_anew_once_an_inbound_message_is_claimed(worker, person):
    message = stored_inbound(worker, person)
    for _ in range(3):
        let_dates_pass()
        recover()
    assert engine().claim_inbound(message.pk, uuid.uuid4())
    message.refresh_from_db()
    assert message.publishes == 0


def test_what_the_admin_sends_again_is_found_if_its_doorbell_is_lost(
    worker, broadcast, admin_client, calls
):
    worker.take()
    broadcast.batches.all().delete()
    broadcast.transmissions.update(status=Status.ERRORED, error="refused")
    broadcast.set_status()
    assert_done(broadcast, "E" * 101)

    with worker.commit():
        page = reverse("admin:rapidsms_db_router_message_changelist")
        act(admin_client, page, "resend", broadcast.pk)
    assert broadcast.batches.count() == 100
    assert len(worker.take()) == 1  # and the broker forgets it
    let_dates_pass()
    recover()
    worker.work()
    assert len(calls) == 100
    assert_done(broadcast, "S" * 101)


# In a worker


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("before", ["never", "long ago"])
def test_of_many_workers_one_looks(before):
    if before == "long ago":
        RecoverySchedule.objects.create(pk=1, next_look=now() - timedelta(days=1))
    looks = in_threads(*[RecoverySchedule.objects.claim] * 4)
    assert looks.count(True) == 1
    assert RecoverySchedule.objects.count() == 1


@pytest.fixture
def running(settings):
    """A function that starts the recovery of a worker; it is stopped in the end."""
    started = []

    def running(interval):
        settings.DB_ROUTER_RECOVERY_INTERVAL = interval
        started.append(step.RecoveryStep(None))
        started[0].start(None)

    yield running
    for each in started:
        each.stop(None)
        assert not each._thread.is_alive()


def wait_until(condition, meanwhile):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.05)


@pytest.mark.django_db(transaction=True)
def test_a_worker_recovers_by_itself_also_after_an_error(worker, people, running, monkeypatch):
    failed = []
    first = step.recover

    def failing_first():
        if failed:
            return first()
        failed.append(True)
        raise ConnectionError("the database is away")

    monkeypatch.setattr(step, "recover", failing_first)
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
    monkeypatch.setattr(rescue, "MOST", 2)
    monkeypatch.setattr(step, "MOST", 2)
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
    monkeypatch.setattr(rescue, "MOST", 2)
    monkeypatch.setattr(step, "MOST", 2)
    for n in range(7):
        stored_inbound(worker, person, f"hello {n}")
    worker.take()
    let_dates_pass()
    published = []

    def interval_is_over():
        return RecoverySchedule.objects.filter(next_look__lt=now()).exists()

    running(interval=2)
    wait_until(interval_is_over, meanwhile=lambda: published.extend(worker.take()))
    assert len(published) == 2
