"""``"router.db.rate"``: SMS segments over time, over all workers."""

from __future__ import annotations

import pytest
from django.db import connection

from rapidsms_db_router import conf
from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.rate import GRANT
from rapidsms_db_router.models import Batch, SlotLease
from tests.integration.stage import Stage, accept, statuses

pytestmark = pytest.mark.django_db


class Calls:
    """When a sender's gateway was called, and with how many segments."""

    def __init__(self, stage):
        self.stage = stage
        #: Moment, segments and text of each call.
        self.made = []

    def __call__(self, call):
        """Note a call, and accept it."""
        text = call.message.text
        self.made.append((self.stage.clock.seconds, len(call.rows) * segments.count(text), text))
        return accept(call)

    @property
    def moments(self):
        """When calls were made, from the first one on."""
        return [round(moment - self.made[0][0], 3) for moment, *_ in self.made]

    def most_in_a_second(self):
        """Return the most segments of any second, wherever it begins."""
        found, start, total = 0, 0, 0
        for moment, count, _ in self.made:
            total += count
            while self.made[start][0] <= moment - 1:
                total -= self.made[start][1]
                start += 1
            found = max(found, total)
        return found


@pytest.fixture
def options(installed_backends, settings):
    """The options of ``phones``; one recipient a call."""
    installed_backends["phones"]["router.db.batch_size"] = 1
    return installed_backends["phones"]


@pytest.fixture
def stage(worker, monkeypatch, options):
    """One sender."""
    return Stage(worker, monkeypatch)


@pytest.fixture
def calls(stage):
    """The calls of that sender."""
    return Calls(stage)


@pytest.mark.parametrize(
    ("rate", "apart"), [("10/s", 0.1), ("2/s", 0.5), ("60/m", 1), ("1/m", 60), ("60/h", 60)]
)
def test_calls_are_spaced_evenly(stage, options, people, calls, rate, apart):
    options["router.db.rate"] = rate
    message = stage.store(people(6))
    stage.play(calls, seconds=5 * apart + 0.5)
    assert statuses(message) == 6 * "S"
    expected = [number * apart for number in range(6)]
    assert calls.moments == pytest.approx(expected, abs=max(0.03, 0.05 * apart))


@pytest.mark.parametrize(
    ("text", "count"), [("short", 1), ("x" * 161, 2), ("ж" * 70, 1), ("ж" * 135, 3)]
)
def test_a_rate_counts_segments(stage, options, people, calls, text, count):
    options["router.db.rate"] = "1/s"
    stage.store(people(3), text)
    stage.play(calls, seconds=10)
    assert calls.moments == pytest.approx([0, count, 2 * count], abs=0.3)


def test_a_rate_counts_the_segments_of_the_coding_that_is_used(stage, options, people, calls):
    """RapidSMS's Kannel backend has one coding for all texts."""
    options |= {"ENGINE": "rapidsms.backends.kannel.KannelBackend", "coding": 2}
    options["router.db.rate"] = "1/s"
    stage.store(people(3), "x" * 160)
    stage.play(calls, seconds=10)
    assert calls.moments == pytest.approx([0, 3, 6], abs=0.3)


def test_a_call_is_no_larger_than_a_second_of_the_rate(stage, options, people, calls):
    options |= {"router.db.batch_size": 200, "router.db.rate": "20/s"}
    stage.store(people(50))
    stage.play(calls, seconds=5)
    assert sum(count for _, count, _ in calls.made) == 50
    assert max(count for _, count, _ in calls.made) <= 20
    calls.made.clear()
    stage.store(people(50), "x" * 161)
    stage.play(calls, seconds=10)
    assert sum(count for _, count, _ in calls.made) == 100
    assert max(count for _, count, _ in calls.made) <= 20


def test_what_may_not_be_sent_yet_waits_and_no_task_does(stage, options, people, worker):
    options["router.db.rate"] = "1/m"
    message = stage.store(people(5))
    stage.play(seconds=59)
    assert sorted(statuses(message)) == list("QQQQS")
    assert worker.take() == []


def test_a_rate_is_kept_over_several_messages(stage, options, people, calls):
    options["router.db.rate"] = "2/s"
    messages = [stage.store(people(4), text) for text in ("one", "two")]
    stage.play(calls, seconds=3.6)
    assert [statuses(message) for message in messages] == ["SSSS", "SSSS"]
    assert calls.moments == pytest.approx([number / 2 for number in range(8)], abs=0.05)


def test_a_reply_goes_before_the_rest_of_a_broadcast(stage, options, people, calls):
    options["router.db.rate"] = "1/s"
    stage.store(people(10))
    stage.play(calls, seconds=1.5)
    stage.receive("ping", people(10)[-1])
    stage.play(calls, seconds=2)
    assert [text for *_, text in calls.made] == ["news", "news", "pong", "news"]


def test_an_idle_backend_saves_nothing_up(stage, options, people, calls):
    options["router.db.rate"] = "10/s"
    stage.store(people(5))
    stage.play(calls, seconds=60)
    calls.made.clear()
    stage.store(people(40))
    stage.play(calls, seconds=10)
    assert calls.most_in_a_second() <= 11
    assert len(calls.made) == 40


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_rate_and_a_limit_of_calls_in_flight_go_together(
    stage, options, people, calls, concurrency
):
    options |= {"router.db.rate": "20/s", "router.db.concurrency": concurrency}
    message = stage.store(people(20))
    stage.play(calls, seconds=2)
    assert statuses(message) == 20 * "S"
    assert calls.most_in_a_second() <= 22


SECONDS = 30


@pytest.mark.parametrize(
    ("senders", "rate", "size"),
    [
        *[(1, 10, 4), (1, 13, 1), (1, 40, 4), (2, 20, 4), (2, 40, 1)],
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in [(1, 10, 1), (1, 13, 4), (1, 40, 1), (2, 20, 1), (2, 40, 4)]
        ),
    ],
)
def test_senders_keep_a_rate_together(worker, monkeypatch, options, people, senders, rate, size):
    """In no second more than 1.1 times the rate, and within 3 % of it over half a minute."""
    options |= {"router.db.rate": f"{rate}/s", "router.db.batch_size": size}
    stage = Stage(worker, monkeypatch, senders)
    calls = Calls(stage)
    for _ in range(2):
        stage.store(people(rate * SECONDS))
    stage.play(calls, seconds=1)
    calls.made.clear()
    end = stage.clock.seconds + SECONDS
    while stage.clock.seconds < end:
        # as the host of a sender does: a step is followed by a pause
        stage.step()
        stage.answer(calls)
        stage.clock.go_on(0.02)
    sent = sum(count for _, count, _ in calls.made)
    assert sent == pytest.approx(rate * SECONDS, rel=0.03)
    assert calls.most_in_a_second() <= 1.1 * rate + size
    assert all(len(gateway.calls) > 10 for gateway in stage.gateways)


@pytest.mark.parametrize(
    ("senders", "rate", "concurrency", "takes"),
    [
        (4, 100, 20, 0.1),
        (3, 20, 6, 0.2),
        (2, 40, 100, 1),
        (1, 20, 10, 0.4),
        (8, 100, 16, 0.08),
        (4, 200, 40, 0.15),
    ],
)
def test_senders_of_few_slots_keep_a_rate_together(
    worker, monkeypatch, options, people, senders, rate, concurrency, takes
):
    """Their slots together are enough for the rate; each asks about four times a second."""
    options |= {"router.db.rate": f"{rate}/s", "router.db.concurrency": concurrency}
    stage, begun = Stage(worker, monkeypatch, senders), []
    calls = Calls(stage)
    stage.store(people(rate * 12))
    locked = 0

    def count(execute, sql, params, many, context):
        nonlocal locked
        locked += "backendstate" in sql and sql.startswith("UPDATE") and "locked" in sql
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        while stage.clock.seconds < 11:
            stage.step()
            stage.clock.go_on(0.02)
            for gateway in stage.gateways:
                for number in list(gateway.in_flight):
                    began = gateway.calls[number].deadline - conf.timeout("phones")
                    if stage.clock.seconds >= began + takes:
                        begun.append(began)
                        gateway.answer(number)
    assert locked <= senders * 11 * 5
    begun.sort()
    calls.made = [(moment, 1, "") for moment in begun if moment < 9]
    assert calls.most_in_a_second() <= 1.1 * rate + 1
    sent = sum(3 <= moment < 9 for moment in begun)
    assert sent == pytest.approx(6 * rate, rel=0.05)


@pytest.mark.parametrize("senders", [1, 2])
def test_senders_that_are_held_up_do_not_make_up_for_it(
    worker, monkeypatch, options, people, senders
):
    """As on a busy machine: steps are now and then further apart."""
    options["router.db.rate"] = "100/s"
    stage = Stage(worker, monkeypatch, senders)
    calls = Calls(stage)
    stage.store(people(1500))
    for number in range(200):
        stage.step()
        stage.answer(calls)
        stage.clock.go_on(0.3 if number % 10 == 9 else 0.02)
    assert len(calls.made) > 200
    assert calls.most_in_a_second() <= 110 + 1


def test_grants_of_a_sender_that_dies_are_lost_and_no_more(worker, monkeypatch, options, people):
    options["router.db.rate"] = "20/s"
    stage = Stage(worker, monkeypatch)
    stage.store(people(100))
    stage.step()
    stage.senders.clear()
    stage.add_sender()
    Batch.objects.update(claim_token=None, recover_at=None)
    SlotLease.objects.all().delete()
    stage.wake()
    calls = Calls(stage)
    stage.play(calls, seconds=5)
    assert len(calls.made) >= 20 * (5 - 2 * GRANT) - 1
