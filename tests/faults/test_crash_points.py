"""Every crash point, enumerated: a fault happens at each, then recovery does its work.

A worker is killed at every statement, commit and call of the gateway it makes, from ``receive()``
or ``send()`` to the last reply; or a statement is refused there; or the answer to a commit is lost.
Each time what is stored in the end, and what the gateway got, must be what was promised.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from django.db import Error
from rapidsms.models import Contact
from rapidsms.router import lookup_connections, receive, send

from rapidsms_db_router import DatabaseRouter, bulk_actions, recovery, reports
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db import clock
from rapidsms_db_router.inbound import again as apps_again
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import (
    BackendState,
    Batch,
    BulkAction,
    EarlyReport,
    Message,
    SlotLease,
    Transmission,
)
from rapidsms_db_router.outbound import discarding
from rapidsms_db_router.outbound.failure import OUTCOME_UNKNOWN
from rapidsms_db_router.publishing import doorbells
from tests.faults import disks
from tests.faults.conftest import CRASH_POINTS
from tests.faults.crashing import ACCEPTED, ALL, COMMITTED, Fault, at_each_point, run_in_child
from tests.faults.processes import Process, is_over, recover, work
from tests.faults.service import Gateway, Register, accepted

pytestmark = pytest.mark.django_db(transaction=True)

each_fault = pytest.mark.parametrize("fault", Fault, ids=[fault.name.lower() for fault in Fault])

#: In tests of what ends in statements that others run too.
each_doubt = pytest.mark.parametrize(
    "fault", [Fault.DEATH, Fault.LOST_ANSWER], ids=["death", "lost_answer"]
)


@pytest.fixture
def log(tmp_path):
    """The file in which the gateway writes down what it accepts."""
    return tmp_path / "gateway"


@pytest.fixture(autouse=True)
def _no_waiting_for_disks():
    with disks.not_waited_for():
        yield


@pytest.fixture
def backend(settings, celery_setting, log, monkeypatch):
    """The options of the one backend, to be changed by the test; tasks go to a broker."""
    celery_setting("task_always_eager", False)
    # no lease ends, and none is renewed, unless time is made to pass
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 1200
    settings.DB_ROUTER_RETRY_BACKOFF = 2
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    options = {"ENGINE": Gateway, "log": log}
    settings.INSTALLED_BACKENDS = {"gateway": options}
    yield options
    monkeypatch.setattr(clock, "_asked_at", float("-inf"))  # it is asked for the true time again


@pytest.fixture
def people(backend, transactional_db):
    """Three connections."""
    return lookup_connections("gateway", [f"+25470000000{n}" for n in range(3)])


@pytest.fixture
def record(record_property):
    """Count the crash points of a test."""
    return lambda number: record_property(CRASH_POINTS, number)


@pytest.fixture
def receive_and_answer(settings, backend, people, log):
    """What the child does: a message comes in, and a worker does all that follows from it."""
    # one router, built before the child is forked
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[Register], backends={"gateway": backend})

    def receive_and_answer():
        try:
            receive("me", people[0], fields={"external_id": "1"})
        except Error:  # the gateway has got no answer, and posts again
            receive("me", people[0], fields={"external_id": "1"})
        work()

    return warmed_up(receive_and_answer, log)


@pytest.fixture
def broadcast(settings, backend, people, log):
    """What the child does: it sends to three people in two batches."""
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[], backends={"gateway": backend})

    def broadcast():
        with suppress(Error):
            send("news", people)
        work()

    return warmed_up(broadcast, log)


def warmed_up(body, log):
    """Run ``body`` and recovery once here, so that what they load the children have already."""
    forget(log)
    body()
    recover()
    return body


def forget(log):
    """Make a clean start."""
    Process().take()
    Batch.objects.all()._raw_delete("default")
    Transmission.objects.all()._raw_delete("default")
    for direction in "OI":
        Message.objects.filter(direction=direction)._raw_delete("default")
    for model in (Contact, BackendState, SlotLease, EarlyReport, BulkAction):
        model.objects.all().delete()
    log.unlink(missing_ok=True)


def faults(body, log, record, fault, prepare=lambda: None, everywhere=ALL):
    """Run ``body`` with the fault at each of its points; yield each run, all clean before it."""

    def clean():
        forget(log)
        prepare()

    number = 0
    for run in at_each_point(body, fault, clean, everywhere):
        number += 1
        yield run
    assert number
    record(number)


def stored(direction):
    """Return the status of each message and those of its transmissions, as one word."""
    words = {}
    rows = Message.objects.filter(direction=direction).order_by("pk", "transmissions__pk")
    for pk, status, of_row in rows.values_list("pk", "status", "transmissions__status"):
        words[pk] = words.get(pk, status) + of_row
    return list(words.values())


def in_flight(log):
    """Return what the gateway has accepted and no row tells of, as often as it has accepted it."""
    rows = Transmission.objects.filter(status__in=(Status.PROCESSING, Status.QUEUED))
    in_flight = set(rows.values_list("message_id", "connection__identity"))
    return [pair for pair in accepted(log) if pair in in_flight]


def assert_true_meanwhile(run, log):
    """Assert that no row says of what the gateway has accepted that it has yet to be sent."""
    pairs = set(accepted(log))
    rows = Transmission.objects.filter(message__direction=Direction.OUTGOING)
    for message_id, identity, status in rows.values_list(
        "message_id", "connection__identity", "status"
    ):
        assert (message_id, identity) not in pairs or status != Status.QUEUED, run


def assert_over(run):
    """Assert that nothing is left to be done, and that rows say of themselves what is true."""
    assert is_over(), run
    assert not Message.objects.filter(claim_token__isnull=False).exists(), run
    outbound = Message.objects.filter(direction=Direction.OUTGOING)
    dates = {
        Status.SENT: (True, False),
        Status.DELIVERED: (True, True),
        Status.ERRORED: (False, False),
    }
    for status, sent, delivered, error in outbound.values_list(
        "status", "sent", "delivered", "error"
    ):
        assert bool(sent) == dates[status][0] and bool(delivered) == dates[status][1], run
        assert bool(error) == (status == Status.ERRORED), run
    rows = Transmission.objects.filter(message__in=outbound)
    for status, sent, delivered, error, next_try in rows.values_list(
        "status", "sent", "delivered", "error", "next_try"
    ):
        assert bool(sent) == dates[status][0] and bool(delivered) == dates[status][1], run
        assert bool(error) == (status == Status.ERRORED) and next_try is None, run


def assert_accepted(log, run, repeated=()):
    """Assert that the gateway accepted each message once for each recipient, and what is repeated.

    :param repeated: pairs of a message's id and an identity, each as often as it is repeated.
    """
    rows = Transmission.objects.filter(message__direction=Direction.OUTGOING)
    once = Counter(rows.values_list("message_id", "connection__identity"))
    assert Counter(accepted(log)) == once + Counter(repeated), run


def lives(run):
    """Whether the process has survived the fault, so that nothing was in doubt."""
    return run.fault is not Fault.DEATH


@each_fault
@pytest.mark.parametrize("atomic", [False, True], ids=["in_steps", "atomic"])
def test_a_message_and_its_replies(receive_and_answer, log, settings, record, atomic, fault):
    settings.DB_ROUTER_ATOMIC_RECEIVE = atomic
    for run in faults(receive_and_answer, log, record, fault):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        assert not (lives(run) and repeated), run
        answered = Message.objects.filter(direction=Direction.OUTGOING).exists()
        recover()

        if not run.committed:
            assert not Message.objects.exists(), run
            assert not accepted(log), run
            continue
        assert stored(Direction.INCOMING) == ["RR"], run
        assert stored(Direction.OUTGOING) == ["SS", "SS"], run
        replies = Message.objects.filter(direction=Direction.OUTGOING)
        assert {reply.in_response_to.direction for reply in replies} == {"I"}, run
        assert_accepted(log, run, repeated)
        if fault is not Fault.DEATH:
            # of two messages to one person the first is the first to arrive
            assert [pk for pk, _ in accepted(log)] == sorted(reply.pk for reply in replies), run
        assert_over(run)
        # an app's own writes are undone with the rest if all is one transaction
        written = Contact.objects.count()
        assert written == 1 if atomic or (answered and not lives(run)) else written in (1, 2), run


def assert_sent_whatever_happens(body, people, log, record, fault):
    for run in faults(body, log, record, fault):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        assert not (lives(run) and repeated), run
        recover()

        if not run.committed:
            assert not Message.objects.exists(), run
            assert not accepted(log), run
            continue
        assert_all_sent(log, run, repeated)


def assert_all_sent(log, run, repeated=()):
    for word in stored(Direction.OUTGOING):
        assert set(word) == {Status.SENT}, run
    assert_accepted(log, run, repeated)
    assert_over(run)


@each_fault
@pytest.mark.parametrize("call_size", [2, 1])
def test_a_broadcast(broadcast, backend, people, log, record, call_size, fault):
    backend["router.db.batch_size"] = call_size
    assert_sent_whatever_happens(broadcast, people, log, record, fault)


@each_doubt
def test_a_broadcast_with_a_recipient_that_is_refused_at_first(
    broadcast, people, log, record, monkeypatch, fault
):
    monkeypatch.setattr(Gateway, "refuses", people[1].identity)
    assert_sent_whatever_happens(broadcast, people, log, record, fault)


@each_doubt
def test_a_broadcast_with_a_recipient_that_is_refused_for_good(
    broadcast, people, log, record, monkeypatch, fault
):
    monkeypatch.setattr(Gateway, "refuses_for_good", (people[1].identity,))
    for run in faults(broadcast, log, record, fault):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        assert not (lives(run) and repeated), run
        recover()

        for word in stored(Direction.OUTGOING):
            assert word == "ESES", run
            times = Counter(identity for _, identity in accepted(log))
            others = people[0].identity, people[2].identity
            assert times == Counter(others) + Counter(identity for _, identity in repeated), run
        assert_over(run)


def test_a_broadcast_at_a_rate(broadcast, backend, people, log, record):
    backend["router.db.rate"] = "2/s"
    assert_sent_whatever_happens(broadcast, people, log, record, Fault.DEATH)


@each_fault
def test_a_broadcast_to_a_backend_that_takes_one_call_at_a_time(
    broadcast, backend, people, log, record, fault
):
    backend["router.db.concurrency"] = backend["router.db.batch_size"] = 1
    assert_sent_whatever_happens(broadcast, people, log, record, fault)


@each_fault
def test_a_broadcast_to_a_gateway_that_is_out_of_order_at_first(
    broadcast, people, log, record, monkeypatch, fault
):
    """Three calls open the circuit, the first trial fails too."""
    monkeypatch.setattr(Gateway, "outages", 4)
    assert_sent_whatever_happens(broadcast, people, log, record, fault)


def test_a_broadcast_to_two_gateways(settings, backend, people, log, record):
    options = {"gateway": backend, "other": {**backend}}
    settings.INSTALLED_BACKENDS = options
    settings.RAPIDSMS_ROUTER = DatabaseRouter(apps=[], backends=options)
    everybody = [*people, *lookup_connections("other", ["+1", "+2"])]

    def broadcast():
        send("news", everybody)
        work()

    assert_sent_whatever_happens(warmed_up(broadcast, log), everybody, log, record, Fault.DEATH)


@each_doubt
def test_a_gateway_whose_answer_is_lost_is_called_again(
    broadcast, people, log, record, monkeypatch, fault
):
    monkeypatch.setattr(Gateway, "answers_lost", 1)
    for run in faults(broadcast, log, record, fault):
        recover()

        for word in stored(Direction.OUTGOING):
            assert word == "SSSS", run
            times = Counter(identity for _, identity in accepted(log))
            # those of the first call twice, those in flight at a death once more
            assert sorted(times) == sorted(person.identity for person in people), run
            assert max(times.values()) <= (2 if lives(run) else 3), run
        assert_over(run)


@each_doubt
@pytest.mark.parametrize("early", [False, True], ids=["later", "early"])
def test_a_broadcast_whose_reports_come_by_the_gateways_own_ids(
    broadcast, people, log, record, monkeypatch, early, fault
):
    """A gateway repeats its report until somebody has taken it."""
    monkeypatch.setattr(Gateway, "names", True)
    monkeypatch.setattr(Gateway, "reports_early", early)

    def report():
        for message in Message.objects.filter(direction=Direction.OUTGOING):
            for person in people:
                with suppress(Error):
                    reports.record("delivered", external_id=f"{message.pk} to {person.identity}")

    def send_and_hear():
        broadcast()
        report()

    for run in faults(send_and_hear, log, record, fault):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        recover()
        report()

        for word in stored(Direction.OUTGOING):
            assert word == "DDDD", run
            assert_accepted(log, run, repeated)
        assert_over(run)


@each_fault
@pytest.mark.parametrize(("call_size", "answers_lost"), [(2, 0), (1, 0), (1, 1)])
def test_a_broadcast_that_must_not_be_sent_twice(
    broadcast, backend, people, log, record, monkeypatch, call_size, answers_lost, fault
):
    backend["router.db.after_crash"] = "error"
    backend["router.db.batch_size"] = call_size
    monkeypatch.setattr(Gateway, "answers_lost", answers_lost)
    for run in faults(broadcast, log, record, fault):
        assert_true_meanwhile(run, log)
        unknown = Transmission.objects.filter(status__in=(Status.PROCESSING, Status.ERRORED))
        unknown = set(unknown.values_list("connection__identity", flat=True))
        if lives(run):
            assert len(unknown) in (0, answers_lost * call_size), run
        recover()

        if not run.committed:
            assert not Message.objects.exists(), run
            continue
        errored = Transmission.objects.filter(status=Status.ERRORED)
        now_unknown = set(errored.values_list("connection__identity", flat=True))
        assert now_unknown >= unknown, run
        # no more than the recipients of the one call whose answer was lost after that
        assert len(now_unknown - unknown) <= answers_lost * call_size, run
        for error in errored.values_list("error", flat=True):
            assert error.startswith(OUTCOME_UNKNOWN), run
        for word in stored(Direction.OUTGOING):
            assert word[0] == ("E" if now_unknown else "S"), run
            assert word.count("S", 1) == len(people) - len(now_unknown), run
            times = Counter(identity for _, identity in accepted(log))
            assert set(times.values()) <= {1}, run
            assert times.keys() >= {person.identity for person in people} - now_unknown, run
        assert_over(run)


@each_fault
def test_errored_transmissions_that_are_sent_again(
    broadcast, backend, people, log, record, monkeypatch, fault
):
    """An operator who sees no success asks again. Each transmission is a chunk of its own."""
    backend["router.db.max_retries"] = 0
    monkeypatch.setattr(bulk_actions, "CHUNK", 1)

    def errored():
        with pytest.MonkeyPatch.context() as refusing:
            refused = tuple(person.identity for person in people[:2])
            refusing.setattr(Gateway, "refuses_for_good", refused)
            send("news", people)
            work()
            recover()
        assert stored(Direction.OUTGOING) == ["EEES"]

    def ask():
        bulk_actions.start(bulk_actions.prepare("resend", Transmission.objects.all()))

    def resend():
        with suppress(Error):
            ask()
        work()

    for run in faults(resend, log, record, fault, errored):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        recover()
        if stored(Direction.OUTGOING) != ["SSSS"]:
            # not begun; or given up, since the worker died in the one try that there is
            assert set("".join(stored(Direction.OUTGOING))) == {"E", "S"}, run
            ask()
            work()

        assert_all_sent(log, run, repeated)


@each_fault
def test_a_message_that_is_cancelled_on_its_way(broadcast, backend, people, log, record, fault):
    backend["router.db.concurrency"] = backend["router.db.batch_size"] = 1

    def send_and_cancel():
        with suppress(Error):
            send("news", people)
        process = Process()
        with suppress(Error):
            process.step_once()
        with suppress(Error):
            discarding.cancel(Message.objects.all())
        process.step()
        process.work()

    for run in faults(send_and_cancel, log, record, fault):
        assert_true_meanwhile(run, log)
        repeated = in_flight(log)
        recover()

        times = Counter(identity for _, identity in accepted(log))
        for word in stored(Direction.OUTGOING):
            cancelled = Transmission.objects.filter(status=Status.ERRORED)
            assert set(cancelled.values_list("error", flat=True)) <= {discarding.CANCELLED}, run
            assert word[0] == ("E" if "E" in word[1:] else "S"), run
            assert set(word[1:]) <= {"E", "S"}, run
            sent = Transmission.objects.filter(status=Status.SENT)
            sent = list(sent.values_list("connection__identity", flat=True))
            assert times == Counter(sent) + Counter(pair[1] for pair in repeated), run
        assert_over(run)


@each_fault
def test_a_backend_that_is_paused_and_resumed(broadcast, people, log, record, fault):
    def ask():
        backend = people[0].backend
        operators.resume(backend)
        doorbells.publish_outbound(backend, message_id=0)

    def pause_and_resume():
        with suppress(Error):
            operators.pause(people[0].backend)
        broadcast()
        if BackendState.objects.filter(paused=True).exists():
            assert not accepted(log)
        with suppress(Error):
            ask()
        work()

    for run in faults(pause_and_resume, log, record, fault):
        repeated = in_flight(log)
        recover()
        if BackendState.objects.filter(paused=True).exists():
            assert not accepted(log), run
            assert set(stored(Direction.OUTGOING)) <= {"PQQQ", "QQQQ"}, run
            ask()
            work()
            recover()

        if Message.objects.exists():
            assert_all_sent(log, run, repeated)


@each_doubt
def test_an_errored_message_that_is_processed_again(receive_and_answer, log, record, fault):
    def ask():
        for message in Message.objects.filter(pk__in=apps_again.reprocess(Message.objects.all())):
            doorbells.publish_inbound(message)

    def errored():
        with pytest.MonkeyPatch.context() as failing:
            failing.setattr(Register, "handle", lambda *_: 1 / 0)
            receive_and_answer()
        assert stored(Direction.INCOMING) == ["EE"]

    def reprocess():
        with suppress(Error):
            ask()
        work()

    for run in faults(reprocess, log, record, fault, errored):
        repeated = in_flight(log)
        recover()
        if stored(Direction.INCOMING) != ["RR"]:
            assert stored(Direction.INCOMING) == ["EE"], run
            ask()
            work()

        assert stored(Direction.INCOMING) == ["RR"], run
        assert stored(Direction.OUTGOING) == ["SS", "SS"], run
        assert_accepted(log, run, repeated)
        assert_over(run)


@pytest.mark.parametrize(
    ("what", "died", "after_crash"),
    [
        ("receive_and_answer", COMMITTED, "resend"),
        ("broadcast", ACCEPTED, "resend"),
        ("broadcast", ACCEPTED, "error"),
    ],
    ids=["inbound", "resend", "error"],
)
@each_fault
def test_recovery_itself(request, backend, people, log, record, what, died, after_crash, fault):
    """The worker dies at one point, and the process that recovers meets a fault at every point."""
    body = request.getfixturevalue(what)
    backend["router.db.after_crash"] = after_crash
    forget(log)
    points = [point for point in run_in_child(body).points if Fault.DEATH.has(point, ALL)]
    died_at = points.index(died) + 1
    by_worker = []

    def die():
        run_in_child(body, died_at)
        by_worker[:] = in_flight(log)

    def recover_once():
        with suppress(Error, recovery.rescue.BrokerDown):
            recover()
        work()

    for run in faults(recover_once, log, record, fault, die):
        by_recovery = in_flight(log)
        recover()

        words = stored(Direction.OUTGOING)
        if what == "receive_and_answer":
            assert words == ["SS", "SS"], run
            assert stored(Direction.INCOMING) == ["RR"], run
        if after_crash == "resend":
            assert_all_sent(log, run, Counter(by_worker) | Counter(by_recovery))
            continue
        errored = Transmission.objects.filter(status=Status.ERRORED)
        errored = set(errored.values_list("message_id", "connection__identity"))
        assert errored >= {*by_worker, *by_recovery}, run
        (word,) = words
        assert word[0] == "E" and set(word) <= {"E", "S"}, run
        assert set(Counter(accepted(log)).values()) <= {1}, run
        assert_over(run)
