"""Operators pause, move and give up what senders are sending: it ends once, and nobody is lost."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from rapidsms.router import send

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission, status
from rapidsms_db_router.outbound import pausing
from tests.concurrency.parallel import in_threads
from tests.concurrency.sending import send_all, send_until

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE, MESSAGES = 60, 6


@pytest.fixture
def broadcasts(router, make_connections, published, settings):
    """Messages in many small batches."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    connections = make_connections(PEOPLE)
    return [
        send(f"broadcast {number}", connections).database_message.pk for number in range(MESSAGES)
    ]


def assert_nothing_is_left():
    assert not Batch.objects.exists()
    for message in Message.objects.filter(direction=Direction.OUTGOING):
        assert message.status == status.current(message)


def test_a_message_that_is_paused_and_goes_on_while_it_is_sent_is_sent_once(broadcasts, gateway):
    def steer():
        """Pause and go on, again and again."""
        for _ in range(30):
            pk = random.choice(broadcasts)
            pausing.pause(pk)
            time.sleep(0.005)
            pausing.go_on(pk)

    *refused, _, _ = in_threads(send_all, send_all, steer, steer)

    assert refused == [[], []]
    assert set(Transmission.objects.values_list("status", "attempts")) == {(Status.SENT, 1)}
    assert set(Counter(gateway.sent).values()) == {MESSAGES}
    assert_nothing_is_left()


def test_nothing_is_sent_once_a_pause_is_committed(broadcasts):
    """Whoever has claimed it."""
    paused, *others = broadcasts
    sent = []

    def steer():
        while not Transmission.objects.filter(message=paused, status=Status.SENT).exists():
            time.sleep(0.001)
        pausing.pause(paused)
        # what was in flight then
        begun = Transmission.objects.filter(message=paused).exclude(status=Status.QUEUED)
        sent.append(begun.count())

    def are_over():
        return bool(sent) and not Batch.objects.filter(message__in=others).exists()

    in_threads(lambda: send_until(are_over), lambda: send_until(are_over), steer)

    begun = Transmission.objects.filter(message=paused).exclude(status=Status.QUEUED).count()
    assert begun == sent[0]
    assert not Batch.objects.claimed().exists()


def test_what_is_given_up_and_moved_while_it_is_sent_ends_once(broadcasts, gateway):
    def steer(kind):
        rows = Batch.objects.filter(message__in=broadcasts[:3])
        action = bulk_actions.prepare(kind, rows)
        bulk_actions.run_here(action, lambda action: None)
        return action

    *refused, _, _ = in_threads(
        send_all, send_all, lambda: steer("discard"), lambda: steer("send_now")
    )

    assert refused == [[], []]
    found = Counter(Transmission.objects.values_list("status", "error"))
    assert set(found) <= {(Status.SENT, ""), (Status.ERRORED, "cancelled")}
    assert len(gateway.sent) == found[Status.SENT, ""]
    assert not Message.objects.filter(not_before__gt=now()).exists()
    assert_nothing_is_left()
