"""Two programs that answer each other are stopped; people, and their phones, are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.router import receive, send

from rapidsms_db_router import signals
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import loops
from rapidsms_db_router.models import Batch, Message, Transmission

pytestmark = pytest.mark.django_db


@pytest.fixture
def text_in(worker, settings):
    """A function that has the apps answer a text of somebody, so many times."""

    def text_in(person, count=1, text="ping"):
        for _ in range(count):
            with worker.commit():
                receive(text, person)
            worker.work()

    settings.DB_ROUTER_LOOP_LIMIT = 3
    return text_in


def test_a_program_that_answers_each_reply_is_stopped(worker, person, calls, caplog):
    """The gateway posts each SMS back at once, as the program at the other end does."""
    told = []

    def receiver(signal, **named):
        told.append(named)

    signals.transmissions_errored.connect(receiver)
    with worker.commit():
        receive("ping", person)
    try:
        for _ in range(200):
            answered = len(calls)
            worker.work()
            if len(calls) == answered:
                break
            with worker.commit():
                receive("ping", person)
    finally:
        signals.transmissions_errored.disconnect(receiver)
    assert len(calls) == 50
    last = Message.objects.order_by("pk").last()
    row = last.transmissions.get()
    assert (last.direction, last.status, last.given_up) == ("O", "E", True)
    assert (row.status, row.error, row.next_try) == ("E", loops.REASON, None)
    assert not Batch.objects.exists()
    (warning,) = [line for line in caplog.messages if line.startswith("reply_loop")]
    assert warning == f"reply_loop message={last.pk}"
    ((message, error),) = [(each["message"], each["error"]) for each in told]
    assert (message, message.status, error) == (last, "E", loops.REASON)


def test_forty_reports_at_once_are_all_answered(worker, person, calls):
    for _ in range(40):
        with worker.commit():
            receive("ping", person)
    worker.work()
    assert len(calls) == 40


def test_what_counts_is_the_text_and_the_connection(text_in, people, calls):
    one, other = people(2)
    text_in(one, 5)
    text_in(other, 2)
    text_in(one, 2, "ping once more")
    assert [call.identities[0] for call in calls].count(one.identity) == 5
    assert [call.identities[0] for call in calls].count(other.identity) == 2


def test_after_five_minutes_replies_are_let_through_again(text_in, person, calls):
    text_in(person, 4)
    assert len(calls) == 3
    Transmission.objects.update(date=now() - timedelta(seconds=loops.WINDOW + 1))
    text_in(person, 4)
    assert len(calls) == 6


def test_processes_count_together(text_in, person, calls):
    for _ in range(5):
        loops.forget()  # as another process, which has not seen the others' replies
        text_in(person)
    assert len(calls) == 3


@pytest.mark.parametrize("limit", [0, 1000])
def test_the_limit_is_a_setting(text_in, person, calls, settings, limit):
    settings.DB_ROUTER_LOOP_LIMIT = limit
    text_in(person, 60)
    assert len(calls) == 60


def test_a_message_that_answers_none_is_no_loop(worker, person, calls, settings):
    settings.DB_ROUTER_LOOP_LIMIT = 1
    for _ in range(4):
        with worker.commit():
            send("news", [person])
    worker.work()
    assert len(calls) == 4


def test_a_reply_that_was_stopped_can_be_sent_all_the_same(text_in, person, worker, calls):
    from tests.integration.test_bulk_actions import act_on

    text_in(person, 4)
    with worker.commit():
        act_on("resend", Transmission.objects.all())
    worker.work()
    assert len(calls) == 4


@pytest.mark.parametrize(("limit", "looks"), [(50, 0), (20, 3)])
def test_a_usual_reply_costs_no_look(worker, person, settings, limit, looks):
    settings.DB_ROUTER_LOOP_LIMIT = limit
    with CaptureQueriesContext(connection) as captured:
        for _ in range(5):
            with worker.commit():
                receive("ping", person)
            worker.work()
    sql = [query["sql"] for query in captured.captured_queries]
    assert sum("COUNT(" in each and "text" in each for each in sql) == looks


def test_strange_texts_and_many_pairs_are_counted(monkeypatch, person):
    monkeypatch.setattr(loops, "MOST", 10)
    recent = loops.Recent()
    for number in range(100):
        assert recent.count((number, 1)) == 1
    assert recent.count((99, 1)) == 2
