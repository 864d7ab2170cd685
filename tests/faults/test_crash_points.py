"""Every crash point, enumerated: a process is killed at each, then recovery does its work.

The worker is killed at every statement, commit and call of the gateway it makes, from
``receive()`` or ``send()`` to the last reply. Each time, what is stored in the end and what the
gateway got must be what was promised, and is told from where the kill fell.
"""

from __future__ import annotations

import datetime
from collections import Counter
from contextlib import nullcontext

import pytest
from rapidsms.models import Contact
from rapidsms.router import lookup_connections, receive, send

from rapidsms_db_router import DatabaseRouter, delivery, gates, recovery, reports
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from tests.faults.conftest import CRASH_POINTS
from tests.faults.crashing import ACCEPTED, COMMITTED, kill_everywhere, run_in_child
from tests.faults.service import Gateway, Register, accepted
from tests.integration.conftest import Worker

pytestmark = pytest.mark.django_db(transaction=True)

#: Recovery has everything done within so many looks, or never.
LOOKS = 5


@pytest.fixture
def log(tmp_path):
    """The file in which the gateway writes down what it accepts."""
    return tmp_path / "gateway"


@pytest.fixture
def backend(settings, celery_setting, log):
    """The options of the one backend, to be changed by the test; tasks go to a broker."""
    celery_setting("task_always_eager", False)
    # a retry is due at once
    settings.DB_ROUTER_RETRY_BACKOFF = 0.01
    options = {"ENGINE": Gateway, "log": log}
    settings.INSTALLED_BACKENDS = {"gateway": options}
    return options


@pytest.fixture
def people(backend, transactional_db):
    """Three connections."""
    return lookup_connections("gateway", [f"+25470000000{n}" for n in range(3)])


@pytest.fixture
def receive_and_answer(settings, backend, people, log):
    """What the child does: a message comes in, and a worker does all that follows from it."""
    # one router, built before the child is forked
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[Register], backends={"gateway": backend})

    def receive_and_answer():
        receive("me", people[0], fields={"external_id": "1"})
        work()

    return warmed_up(receive_and_answer, log)


@pytest.fixture
def broadcast(request, settings, backend, people, log, monkeypatch):
    """What the child does: it sends to three people in two batches, one of which has to wait."""
    monkeypatch.setattr(delivery, "WINDOW", 1)
    monkeypatch.setattr(delivery, "MOMENT", getattr(request, "param", 0))
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[], backends={"gateway": backend})

    def broadcast():
        send("news", people)
        work()

    return warmed_up(broadcast, log)


def warmed_up(body, log):
    """Run ``body`` and recovery once here, so that what they load the children have already."""
    body()
    recover()
    forget(log)
    return body


def work():
    """Run all tasks there are in this process's broker, also those that are for later."""
    worker = Worker(lambda execute: nullcontext())
    for later in worker.work():
        worker.run(later)
        worker.work()


def recover():
    """Have recovery look, as if every date had passed, until there is nothing left to be done."""
    for _ in range(LOOKS):
        for model in (Message, Batch):
            unfinished = model.objects.filter(due__isnull=False)
            unfinished.update(due=now() - datetime.timedelta(seconds=1))
        recovery.recover()
        work()
        if not Batch.objects.exists() and not Message.objects.filter(due__isnull=False).exists():
            return


def crashes(body, log, record_property):
    """Kill ``body`` at every crash point there is; yield each crash, all clean before it."""
    number = 0
    for crash in kill_everywhere(body):
        number += 1
        yield crash
        forget(log)
    assert number
    record_property(CRASH_POINTS, number)


def forget(log):
    for model in (Message, Contact):
        model.objects.all().delete()
    log.unlink(missing_ok=True)


def stored(direction):
    """Return the status of each message and those of its transmissions, as one word."""
    return [
        message.status
        + "".join(message.transmissions.order_by("pk").values_list("status", flat=True))
        for message in Message.objects.filter(direction=direction).order_by("pk")
    ]


def assert_nothing_left(crash):
    assert not Batch.objects.exists(), crash
    assert not Message.objects.filter(due__isnull=False).exists(), crash
    assert not Transmission.objects.filter(claim__isnull=False).exists(), crash


def assert_accepted(log, crash, people, repeated):
    """Assert that the gateway accepted the message to each once, to those repeated twice."""
    times = Counter(identity for call in accepted(log) for identity in call)
    assert times == Counter([person.identity for person in people]) + Counter(repeated), crash


def in_flight(crash, log):
    """Return whom the gateway had accepted the message to without that being recorded."""
    return accepted(log)[-1] if crash.unrecorded else []


@pytest.mark.parametrize("atomic", [False, True], ids=["in_steps", "atomic"])
def test_a_message_and_its_reply(
    receive_and_answer, people, log, settings, record_property, atomic
):
    settings.DB_ROUTER_ATOMIC_RECEIVE = atomic
    for crash in crashes(receive_and_answer, log, record_property):
        repeated = in_flight(crash, log)
        answered = Message.objects.filter(direction=Direction.OUTGOING).exists()
        run_in_child(recover)

        if not crash.committed:
            assert not Message.objects.exists(), crash
            assert not accepted(log), crash
            continue
        assert stored(Direction.INCOMING) == ["RR"], crash
        assert stored(Direction.OUTGOING) == ["SS"], crash
        assert Message.objects.get(direction="O").in_response_to.direction == "I", crash
        assert_accepted(log, crash, people[:1], repeated)
        assert_nothing_left(crash)
        # an app's own writes are undone with the rest if all is one transaction
        written = Contact.objects.count()
        assert written == 1 if atomic or answered else written in (1, 2), crash


def assert_sent_whatever_the_crash(broadcast, people, log, record_property):
    for crash in crashes(broadcast, log, record_property):
        repeated = in_flight(crash, log)
        run_in_child(recover)

        if not crash.committed:
            assert not Message.objects.exists(), crash
            continue
        assert stored(Direction.OUTGOING) == ["SSSS"], crash
        assert_accepted(log, crash, people, repeated)
        assert_nothing_left(crash)


#: For how long a task goes on with other batches.
for_a_moment = pytest.mark.parametrize(
    "broadcast", [0, float("inf")], ids=["one_a_task", "all_in_one"], indirect=True
)


@for_a_moment
def test_a_broadcast(broadcast, people, log, record_property):
    assert_sent_whatever_the_crash(broadcast, people, log, record_property)


@for_a_moment
def test_a_broadcast_with_a_recipient_who_is_refused_at_first(
    broadcast, people, log, record_property, monkeypatch
):
    monkeypatch.setattr(Gateway, "refuses", people[1].identity)
    assert_sent_whatever_the_crash(broadcast, people, log, record_property)


def test_a_broadcast_at_a_rate(broadcast, backend, people, log, record_property):
    backend["router.db.rate"] = "100/s"
    assert_sent_whatever_the_crash(broadcast, people, log, record_property)


def test_a_broadcast_to_a_backend_with_a_limit(broadcast, backend, people, log, record_property):
    backend["router.db.concurrency"] = 1
    assert_sent_whatever_the_crash(broadcast, people, log, record_property)


def test_a_broadcast_to_a_gateway_that_is_out_of_order_at_first(
    broadcast, people, log, record_property, monkeypatch
):
    monkeypatch.setattr(gates, "FAILURES", 1)  # one that fails is left alone, for a hundredth
    monkeypatch.setattr(Gateway, "failures", 3)
    assert_sent_whatever_the_crash(broadcast, people, log, record_property)


def test_a_broadcast_whose_reports_come_by_the_gateways_own_ids(
    broadcast, people, log, record_property, monkeypatch
):
    """A gateway repeats its report until somebody has taken it."""
    monkeypatch.setattr(Gateway, "names", True)

    def report():
        for message in Message.objects.filter(direction=Direction.OUTGOING):
            for person in people:
                reports.record("delivered", external_id=f"{message.pk} to {person.identity}")

    def send_and_hear():
        broadcast()
        report()

    for crash in crashes(send_and_hear, log, record_property):
        repeated = in_flight(crash, log)
        run_in_child(recover)
        run_in_child(report)

        if not crash.committed:
            assert not Message.objects.exists(), crash
            continue
        assert stored(Direction.OUTGOING) == ["DDDD"], crash
        assert_accepted(log, crash, people, repeated)
        assert_nothing_left(crash)


@for_a_moment
def test_a_broadcast_that_must_not_be_sent_twice(broadcast, backend, people, log, record_property):
    backend["router.db.after_crash"] = "error"
    for crash in crashes(broadcast, log, record_property):
        unknown = Transmission.objects.filter(status=Status.PROCESSING)
        unknown = set(unknown.values_list("connection__identity", flat=True))
        # in whose hands it was, nobody knows, but with the gateway it was for sure
        assert unknown >= set(in_flight(crash, log)), crash
        run_in_child(recover)

        if not crash.committed:
            assert not Message.objects.exists(), crash
            continue
        errored = Transmission.objects.filter(status=Status.ERRORED)
        assert set(errored.values_list("connection__identity", flat=True)) == unknown, crash
        assert set(errored.values_list("error", flat=True)) <= {recovery.OUTCOME_UNKNOWN}, crash
        (statuses,) = stored(Direction.OUTGOING)
        assert statuses[0] == ("E" if unknown else "S"), crash
        assert statuses.count("S", 1) == len(people) - len(unknown), crash
        times = Counter(identity for call in accepted(log) for identity in call)
        assert set(times.values()) <= {1}, crash
        assert times.keys() >= {person.identity for person in people} - unknown, crash
        assert_nothing_left(crash)


@pytest.mark.parametrize(
    ("what", "died", "after_crash"),
    [
        ("receive_and_answer", COMMITTED, "resend"),
        ("broadcast", ACCEPTED, "resend"),
        ("broadcast", ACCEPTED, "error"),
    ],
    ids=["inbound", "resend", "error"],
)
def test_recovery_itself(request, backend, people, log, record_property, what, died, after_crash):
    """The worker dies at one point, and whoever recovers what it left at every point."""
    body = request.getfixturevalue(what)
    backend["router.db.after_crash"] = after_crash
    died_at = run_in_child(body).points.index(died) + 1

    number = 0
    while True:
        forget(log)
        by_worker = in_flight(run_in_child(body, died_at), log)
        crash = run_in_child(recover, number + 1)
        if not crash.killed:
            break
        number += 1
        by_recovery = in_flight(crash, log)
        run_in_child(recover)

        assert Message.objects.filter(direction=Direction.OUTGOING).count() == 1, crash
        (statuses,) = stored(Direction.OUTGOING)
        recipients = people[: len(statuses) - 1]
        if after_crash == "resend":
            assert set(statuses) == {"S"}, crash
            assert_accepted(log, crash, recipients, by_worker + by_recovery)
        else:
            errored = Transmission.objects.filter(status=Status.ERRORED)
            errored = set(errored.values_list("connection__identity", flat=True))
            assert errored >= {*by_worker, *by_recovery}, crash
            assert statuses[0] == "E" and set(statuses) <= {"E", "S"}, crash
            times = Counter(identity for call in accepted(log) for identity in call)
            assert set(times.values()) <= {1}, crash
        assert_nothing_left(crash)
    record_property(CRASH_POINTS, number)
