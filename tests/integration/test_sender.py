"""The life of a batch, step by step: a clock that stands still, calls that end when a test says."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.db import OperationalError, transaction
from rapidsms.models import Backend
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message, SlotLease, Transmission
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound import sender as sender_module
from rapidsms_db_router.outbound.lane import MOST_ABANDONED
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.reports import record
from tests.integration.stage import Stage, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def options(installed_backends):
    """The options of ``phones``: one recipient a call, three calls at once, no pause after them."""
    installed_backends["phones"] |= {"router.db.batch_size": 1, "router.db.concurrency": 3}
    return installed_backends["phones"]


@pytest.fixture
def stage(worker, monkeypatch, options):
    """One sender."""
    return Stage(worker, monkeypatch)


def in_flight(message=None):
    """Return the identities of the transmissions that are P."""
    rows = Transmission.objects.filter(status="P")
    rows = rows if message is None else rows.filter(message=message)
    return sorted(rows.values_list("connection__identity", flat=True))


def called(stage):
    """Return the identities that are being called."""
    gateway = stage.gateway
    return sorted(
        row.identity for number in gateway.in_flight for row in gateway.calls[number].rows
    )


# P is what is in flight


def test_p_is_what_is_in_flight(stage, people):
    message = stage.store(people(10))
    assert statuses(message) == 10 * "Q"
    for _ in range(10):
        stage.step()
        assert in_flight() == called(stage)
        assert len(called(stage)) == min(3, message.transmissions.filter(status__in="QP").count())
        stage.gateway.answer(stage.gateway.in_flight[-1])
    stage.step()
    assert statuses(message) == 10 * "S"
    assert not Batch.objects.exists()
    message.refresh_from_db()
    assert message.status == "S"


def test_a_batch_is_claimed_as_a_whole_and_called_in_parts(stage, people, settings, options):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 10
    options |= {"router.db.batch_size": 4, "router.db.concurrency": 1}
    message = stage.store(people(25))
    stage.step()
    assert Batch.objects.claimed().count() == 1
    assert len(called(stage)) == 4
    stage.play()
    assert statuses(message) == 25 * "S"
    assert [len(call.rows) for call in stage.gateway.calls] == [4, 4, 4, 4, 4, 4, 1]


def test_a_step_without_news_changes_nothing(stage, people):
    stage.store(people(10))
    stage.step()
    before = list(Transmission.objects.order_by("pk").values())
    for _ in range(5):
        stage.step()
        stage.clock.go_on(0.3)
    assert list(Transmission.objects.order_by("pk").values()) == before
    assert stage.calls == 3


# Order


def test_replies_go_before_broadcasts(stage, people):
    stage.store(people(20))
    stage.step()
    stage.receive("ping", people(20)[-1])
    for _ in range(2):
        stage.step()
        stage.gateway.answer(stage.gateway.in_flight[0])
    stage.step()
    assert stage.gateway.texts[:4] == ["news", "news", "news", "pong"]


def test_a_reply_of_another_process_goes_before_broadcasts(worker, monkeypatch, options, people):
    stage = Stage(worker, monkeypatch, senders=2)
    message = stage.store(people(20))
    stage.senders[1].step()
    Batch.objects.filter(claim_token=None).update(position=5)
    with worker.commit():
        reply = send("pong", people(1)).database_message
    worker.take()
    reply.batches.update(position=-1)
    stage.senders[1].wake(Backend.objects.get())
    gateway = stage.gateways[1]
    for _ in range(4):
        stage.clock.go_on(0.3)
        stage.senders[1].step()
        gateway.answer(gateway.in_flight[0])
    assert "pong" in gateway.texts[:5]
    assert statuses(message).count("Q") > 10


def test_of_two_broadcasts_the_one_that_has_come_less_far_goes_first(
    stage, people, settings, options
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    options["router.db.concurrency"] = 1
    stage.store(people(20), "first")
    for _ in range(8):
        stage.step()
        stage.answer()
    stage.store(people(10), "second")
    stage.play()
    texts = stage.gateway.texts
    assert texts[:8] == 8 * ["first"]
    # the second catches up, then both take turns
    assert texts[10:16].count("second") >= 5
    assert texts[-8:] == 8 * ["first"]
    assert len(texts) == 30


def test_no_two_calls_to_one_person_are_in_flight(stage, people):
    everyone = people(4)
    stage.store(everyone, "one")
    stage.store(everyone, "two")
    stage.store(everyone, "three")
    for _ in range(40):
        stage.step()
        numbers = called(stage)
        assert len(set(numbers)) == len(numbers)
        if not stage.gateway.in_flight:
            break
        stage.gateway.answer(stage.gateway.in_flight[-1])
    assert not Batch.objects.exists()


def test_messages_to_one_person_leave_in_the_order_in_which_they_were_stored(stage, people):
    everyone = people(4)
    for text in ("one", "two", "three"):
        stage.store(everyone, text)
    for _ in range(40):
        stage.step()
        if not stage.gateway.in_flight:
            break
        # the calls that were started last end first
        stage.gateway.answer(stage.gateway.in_flight[-1])
    for person in everyone:
        texts = [
            call.message.text
            for call in stage.gateway.calls
            if call.rows[0].identity == person.identity
        ]
        assert texts == ["one", "two", "three"]


def test_three_replies_to_one_text_leave_in_order(stage, person):
    for text in ("ping 1", "ping 2", "ping 3"):
        stage.receive(text, person)
    for number in range(3):
        stage.step()
        stage.step()
        assert stage.gateway.in_flight == [number]
        stage.gateway.answer(number)
    stage.step()
    assert stage.gateway.texts == ["pong 1", "pong 2", "pong 3"]


# Calls past their deadline


@pytest.mark.parametrize(("after_crash", "status"), [("resend", "E"), ("error", "E")])
def test_a_call_past_its_deadline_is_over(stage, options, people, after_crash, status):
    options |= {"router.db.timeout": 5, "router.db.after_crash": after_crash}
    message = stage.store(people(1))
    stage.step()
    stage.clock.go_on(4.9)
    stage.step()
    assert statuses(message) == "P"
    assert stage.sender.next_step() <= 0.1
    stage.clock.go_on(0.1)
    stage.step()
    row = message.transmissions.get()
    assert (row.status, row.attempts) == (status, 1)
    assert row.error == "outcome unknown: OutcomeUnknown: no answer within 5 s"
    assert (row.next_try is None) is (after_crash == "error")


@pytest.mark.parametrize("late", [None, OSError("no")])
def test_the_late_answer_of_a_call_that_is_over_changes_nothing(stage, options, people, late):
    options["router.db.timeout"] = 5
    message = stage.store(people(2))
    stage.step()
    stage.clock.go_on(5)
    stage.step()
    before = list(message.transmissions.order_by("pk").values())
    stage.gateway.answer(0, late)
    stage.step()
    assert list(message.transmissions.order_by("pk").values()) == before


def abandoned():
    return sum(SlotLease.objects.values_list("abandoned", flat=True))


def test_threads_that_are_left_behind_are_counted_until_they_end(stage, options, people):
    options |= {"router.db.timeout": 5, "router.db.after_crash": "error"}
    stage.store(people(3))
    stage.step()
    stage.clock.go_on(5)
    stage.step()
    for number in (0, 1, 2):
        # also while the circuit is open
        stage.clock.go_on(5)
        stage.step()
        assert abandoned() == 3 - number
        assert SlotLease.objects.get().expires_at > now()
        stage.gateway.answer(number)
    stage.clock.go_on(5)
    stage.step()
    assert abandoned() == 0


def test_threads_that_are_left_behind_are_bounded(stage, options, people, installed_backends):
    options |= {"router.db.timeout": 5, "router.db.concurrency": 40}
    installed_backends["other"] = installed_backends["phones"]
    message = stage.store(people(300))
    for _ in range(20):
        # an operator who does not believe it
        operators.resume(Backend.objects.get(name="phones"))
        stage.wake()
        stage.step()
        stage.clock.go_on(5.1)
        stage.step()
        stage.clock.go_on(0.3)
    assert MOST_ABANDONED <= stage.calls < MOST_ABANDONED + 40
    waiting = statuses(message).count("Q")
    assert waiting + stage.calls >= 300
    # nothing is held that nobody calls, and others have nothing to do with it
    assert not Batch.objects.claimed().exists()
    other = stage.store(people(5, "other"))
    stage.step()
    assert statuses(other) == "PPPPP"


# What happens to a claimed batch meanwhile


def test_a_pause_takes_effect_on_a_claimed_batch_within_a_quarter_of_a_second(stage, people):
    message = stage.store(people(10))
    stage.step()
    operators.pause(Backend.objects.get())
    stage.clock.go_on(0.25)
    stage.gateway.answer(0)
    stage.step()
    stage.step()
    assert stage.calls == 3
    assert sorted(statuses(message)) == sorted("S" + "PP" + 7 * "Q")
    # calls in flight end, and what waits becomes claimable again
    stage.answer()
    stage.step()
    assert sorted(statuses(message)) == sorted("SSS" + 7 * "Q")
    (batch,) = Batch.objects.all()
    assert batch.claim_token is None
    assert batch.ready_at <= now()
    assert len(batch.transmission_ids) == 7
    stage.clock.go_on(100)
    stage.step()
    assert stage.calls == 3
    operators.resume(Backend.objects.get())
    stage.wake()
    stage.play()
    assert statuses(message) == 10 * "S"


def test_what_was_cancelled_in_a_claimed_batch_is_left_out(stage, people):
    message = stage.store(people(10))
    stage.step()
    assert discarding.cancel(Message.objects.all()) == 7
    stage.play()
    assert stage.calls == 3
    assert sorted(statuses(message)) == sorted("SSS" + 7 * "E")
    assert not Batch.objects.exists()
    message.refresh_from_db()
    assert message.status == "E"


def test_what_was_delivered_in_a_claimed_batch_is_left_out(stage, people):
    message = stage.store(people(10))
    stage.step()
    delivered = [person.identity for person in people(10) if person.identity not in called(stage)]
    rows = message.transmissions.filter(connection__identity__in=delivered[:3])
    # an earlier try had an unknown outcome
    rows.update(attempts=1)
    for identity in delivered[:3]:
        record("delivered", message_id=message.pk, identity=identity)
    stage.play()
    assert not set(delivered[:3]) & set(stage.gateway.identities)
    assert sorted(statuses(message)) == sorted(7 * "S" + "DDD")
    message.refresh_from_db()
    assert message.status == "S"


def test_what_expires_in_a_claimed_batch_is_left_out(stage, people):
    message = stage.store(people(10))
    stage.step()
    (batch,) = stage.sender.lanes[Backend.objects.get().pk].held.values()
    expires_at = now()
    Message.objects.update(expires_at=expires_at)
    batch.message.expires_at = expires_at
    stage.play()
    assert stage.calls == 3
    assert sorted(statuses(message)) == sorted("SSS" + 7 * "E")
    errored = message.transmissions.filter(status="E")
    assert set(errored.values_list("error", "next_try")) == {("expired", None)}
    assert not Batch.objects.exists()


def test_a_lease_that_recovery_ended_is_noticed(stage, people):
    message = stage.store(people(10))
    stage.step()
    Batch.objects.update(recover_at=now())
    recover()
    assert statuses(message) == 10 * "Q"
    # of what it had sent the successes count; about the others recovery has decided
    stage.gateway.answer(0)
    stage.gateway.answer(1, OSError("no"))
    stage.step()
    assert statuses(message).count("S") == 1
    assert not message.transmissions.exclude(error="").exists()
    # the batch is claimed again: nobody is called twice at once
    assert len(set(called(stage))) == len(called(stage)) == 3
    stage.gateway.answer(2)
    stage.play()
    assert statuses(message) == 10 * "S"
    # the one whose failure came too late was sent it again; nobody else was
    assert stage.calls == 11
    assert not Batch.objects.exists()


# The end


def test_draining_releases_what_is_not_called(stage, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    message = stage.store(people(10))
    stage.step()
    stage.sender.drain()
    stage.step()
    assert not stage.sender.is_done
    assert sorted(statuses(message)) == sorted("PPP" + 7 * "Q")
    stage.answer()
    stage.step()
    assert stage.sender.is_done
    assert stage.calls == 3
    assert sorted(statuses(message)) == sorted("SSS" + 7 * "Q")
    batches = list(Batch.objects.all())
    assert sum(len(batch.transmission_ids) for batch in batches) == 7
    assert all(batch.claim_token is None and batch.ready_at <= now() for batch in batches)
    stage.sender.close()
    assert not SlotLease.objects.exists()
    # another process goes on
    stage.senders.clear()
    stage.add_sender()
    stage.wake()
    stage.play()
    assert statuses(message) == 10 * "S"


# Steps that fail


class Away(OperationalError):
    """The database refuses."""


def refused(*_args, **_kwargs):
    raise Away("database is locked")


STATEMENTS = [
    "mark_processing",
    "claim_batches",
    "recipients",
    "hold",
    "mark_sent",
    "requeue",
    "delete_batches",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_step_that_the_database_refuses_forgets_nothing(
    stage, people, monkeypatch, settings, statement
):
    """Whatever is refused, and in whatever step, nothing is lost and nothing is sent twice."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 4
    message = stage.store(people(12))
    failed = 0
    for number in range(30):
        with monkeypatch.context() as away:
            away.setattr(type(engine()), statement, refused)
            try:
                stage.step()
            except Away:
                failed += 1
        # what is called is P; what has been answered may still be
        assert set(called(stage)) <= set(in_flight())
        stage.step()
        if stage.gateway.in_flight:
            error = ConnectionRefusedError("no") if number == 2 else None
            stage.gateway.answer(stage.gateway.in_flight[0], error)
    stage.play(seconds=200)
    assert failed
    assert statuses(message) == 12 * "S"
    assert not Batch.objects.exists()
    message.refresh_from_db()
    assert message.status == "S"
    # one was refused by the gateway, and called again
    assert stage.calls == 13


@contextmanager
def commit_that_fails(monkeypatch, *, lost):
    """Have the next commit of a step fail: before it was made, or only its answer was lost."""
    real = transaction.atomic

    @contextmanager
    def failing(*args, **kwargs):
        if not lost:
            with real(*args, **kwargs):
                yield
                raise Away("server closed the connection")
        with real(*args, **kwargs):
            yield
        raise Away("server closed the connection")

    class Transaction:
        atomic = staticmethod(failing)

    with monkeypatch.context() as context:
        context.setattr(sender_module, "transaction", Transaction)
        yield


@pytest.mark.parametrize("lost", [False, True], ids=["rolled back", "committed"])
@pytest.mark.parametrize("failing_step", range(5))
def test_a_step_whose_commit_fails_loses_nothing_and_sends_nothing_twice(
    stage, people, monkeypatch, failing_step, lost, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 4
    message = stage.store(people(12))
    for number in range(8):
        if number == failing_step:
            with commit_that_fails(monkeypatch, lost=lost), pytest.raises(Away):
                stage.step()
            # what it wanted to call is not in flight, whatever was committed
            assert len(stage.gateway.in_flight) <= 3
            stage.clock.go_on(0.02)
        stage.step()
        assert in_flight() == called(stage)
        stage.answer()
    stage.play()
    assert statuses(message) == 12 * "S"
    assert stage.calls == 12
    assert set(message.transmissions.values_list("attempts", flat=True)) == {1}
    assert not Batch.objects.exists()
    message.refresh_from_db()
    assert message.status == "S"


def test_commits_that_fail_again_and_again_lose_nothing(stage, people, monkeypatch, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 4
    message = stage.store(people(12))
    for number in range(20):
        for lost in (True, False, True)[: number % 4]:
            if Batch.objects.exists():
                stage.clock.go_on(0.25)  # its permit has to be renewed
                with commit_that_fails(monkeypatch, lost=lost), pytest.raises(Away):
                    stage.step()
        stage.step()
        assert in_flight() == called(stage)
        stage.answer()
    stage.play()
    assert statuses(message) == 12 * "S"
    assert stage.calls == 12
    assert not Batch.objects.exists()


def test_one_backend_that_fails_does_not_stop_the_others(
    stage, people, installed_backends, monkeypatch
):
    installed_backends["other"] = installed_backends["phones"]
    message = stage.store([*people(3), *people(3, "other")])
    phones = Backend.objects.get(name="phones")
    real = type(engine()).claim_batches

    def refused_for_phones(self, backend_id, *args, **kwargs):
        if backend_id == phones.pk:
            raise Away("lock wait timeout")
        return real(self, backend_id, *args, **kwargs)

    with monkeypatch.context() as away:
        away.setattr(type(engine()), "claim_batches", refused_for_phones)
        with pytest.raises(Away):
            stage.step()
    others = message.transmissions.filter(connection__backend__name="other")
    assert set(others.values_list("status", flat=True)) == {"P"}
    stage.play()
    assert statuses(message) == 6 * "S"


# Several senders


def test_senders_share_the_concurrency_and_never_exceed_it(
    worker, monkeypatch, options, people, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 5
    options["router.db.concurrency"] = 10
    stage = Stage(worker, monkeypatch, senders=1)
    message = stage.store(people(200))
    stage.step()
    assert stage.in_flight == 10
    # a second one comes, and gets its share as soon as calls of the first one have ended
    stage.add_sender()
    stage.wake()
    for _ in range(10):
        stage.clock.go_on(0.25)
        stage.step()
        assert stage.in_flight <= 10
        for gateway in stage.gateways:
            for number in gateway.in_flight[:2]:
                gateway.answer(number)
    stage.clock.go_on(0.25)
    stage.step()
    assert [len(gateway.in_flight) for gateway in stage.gateways] == [5, 5]
    # and all of it, once the first one has nothing more to do
    stage.senders[0].drain()
    stage.step()
    for number in list(stage.gateways[0].in_flight):
        stage.gateways[0].answer(number)
    stage.step()
    stage.senders.pop(0).close()
    stage.clock.go_on(0.25)
    stage.step()
    stage.step()
    assert len(stage.gateways[1].in_flight) == 10
    stage.play()
    assert statuses(message) == 200 * "S"


def test_the_slots_of_a_sender_that_died_return(worker, monkeypatch, options, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    stage = Stage(worker, monkeypatch, senders=1)
    stage.store(people(30))
    stage.step()
    stage.senders.clear()
    stage.add_sender()
    stage.wake()
    stage.step()
    assert stage.in_flight == 3
    for _ in range(50):
        stage.clock.go_on(0.25)
        stage.step()
    assert len(stage.gateways[1].in_flight) == 3
