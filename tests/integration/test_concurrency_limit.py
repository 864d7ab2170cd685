"""``"router.db.concurrency"``: calls of a backend at once, over all workers."""

from __future__ import annotations

import pytest

from rapidsms_db_router.conf import CONCURRENCY
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, SlotLease
from tests.integration.stage import Stage, statuses

pytestmark = pytest.mark.django_db

DATABASE_BACKEND = "rapidsms.backends.database.DatabaseBackend"


@pytest.fixture
def options(installed_backends, settings):
    """The options of ``phones``: one recipient a call, a batch a call."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    return installed_backends["phones"]


@pytest.mark.parametrize("senders", [1, 3])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_calls_of_a_backend_are_in_flight_than_its_limit(
    worker, monkeypatch, options, people, concurrency, senders
):
    options["router.db.concurrency"] = concurrency
    stage = Stage(worker, monkeypatch, senders)
    messages = [stage.store(people(10)) for _ in range(2)]
    most = 0
    while Batch.objects.exists():
        stage.step()
        most = max(most, stage.in_flight)
        assert stage.in_flight <= concurrency
        for gateway in stage.gateways:
            for number in gateway.in_flight[:2]:
                gateway.answer(number)
        stage.clock.go_on(0.1)
    assert most == concurrency
    assert [statuses(message) for message in messages] == [10 * "S", 10 * "S"]
    assert stage.calls == 20


def test_the_default_holds_where_a_backend_says_nothing(worker, monkeypatch, options, people):
    stage = Stage(worker, monkeypatch, senders=2)
    stage.store(people(120))
    for _ in range(10):
        stage.step()
        stage.clock.go_on(0.25)
    assert stage.in_flight == CONCURRENCY == 50


def test_the_limit_counts_calls_whatever_they_carry(worker, monkeypatch, options, people, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 20
    options |= {"router.db.batch_size": 10, "router.db.concurrency": 2}
    stage = Stage(worker, monkeypatch)
    message = stage.store(people(100))
    stage.step()
    assert stage.in_flight == 2
    assert statuses(message).count("P") == 20


def test_a_limit_that_is_lowered_holds_for_the_calls_that_follow(
    worker, monkeypatch, options, people
):
    options["router.db.concurrency"] = 6
    stage = Stage(worker, monkeypatch)
    stage.store(people(30))
    stage.step()
    assert stage.in_flight == 6
    options["router.db.concurrency"] = 2
    stage.clock.go_on(0.25)
    for _ in range(8):
        stage.step()
        stage.gateway.answer(stage.gateway.in_flight[0])
    stage.step()
    assert stage.in_flight == 2


def test_each_backend_has_a_limit_of_its_own(
    worker, monkeypatch, options, people, installed_backends
):
    options["router.db.concurrency"] = 2
    installed_backends["other"] = {**options, "router.db.concurrency": 3}
    stage = Stage(worker, monkeypatch)
    message = stage.store([*people(10), *people(10, "other")])
    stage.step()
    processing = message.transmissions.filter(status="P")
    assert processing.filter(connection__backend__name="phones").count() == 2
    assert processing.filter(connection__backend__name="other").count() == 3


def test_a_backend_that_only_writes_rows_is_called_by_one_thread_of_a_process(
    worker, monkeypatch, options, people
):
    options["ENGINE"] = DATABASE_BACKEND
    stage = Stage(worker, monkeypatch)
    stage.store(people(10))
    stage.step()
    assert stage.in_flight == 1


def test_broadcasts_to_a_limited_backend_share_it_and_replies_come_first(
    worker, monkeypatch, options, people
):
    options["router.db.concurrency"] = 1
    stage = Stage(worker, monkeypatch)
    for text in ("first", "second"):
        stage.store(people(20), text)
    for _ in range(20):
        stage.step()
        stage.answer()
    stage.step()
    stage.receive("ping", people(21)[-1])
    stage.answer()
    stage.play()
    texts = stage.gateway.texts
    assert abs(texts[:20].count("first") - texts[:20].count("second")) <= 2
    assert texts.index("pong") == 21
    assert len(texts) == 41


def test_slots_are_given_back_when_nothing_is_left_to_be_sent(worker, monkeypatch, options, people):
    stage = Stage(worker, monkeypatch)
    stage.store(people(3))
    stage.step()
    assert SlotLease.objects.get().slots > 0
    stage.play(seconds=1)
    assert not SlotLease.objects.exists()


def test_a_limit_that_operators_set_counts_within_a_second(worker, monkeypatch, options, people):
    stage = Stage(worker, monkeypatch)
    stage.store(people(30))
    operators.set_limits(people(1)[0].backend, concurrency=3)
    for _ in range(2):
        stage.step()
        stage.clock.go_on(0.3)
    assert stage.in_flight == 3
    changed = operators.set_limits(people(1)[0].backend, concurrency=None)
    assert changed == {"concurrency": (3, None)}
    for _ in range(10):
        stage.step()
        stage.clock.go_on(0.1)
    assert stage.in_flight == 30


def test_tries_that_operators_set_count(worker, monkeypatch, options, people):
    stage = Stage(worker, monkeypatch)
    message = stage.store(people(1))
    operators.set_limits(people(1)[0].backend, max_retries=0)
    stage.play(lambda call: ValueError("no"))
    assert statuses(message) == "E"
    assert not Batch.objects.exists()
