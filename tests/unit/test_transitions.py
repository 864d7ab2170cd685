"""Every legal move, and that no other status moves."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils.timezone import now

from rapidsms_db_router import delivery
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message, Transmission

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def outbound(person):
    """A function that stores one outbound transmission."""

    def outbound(status, **columns):
        message = Message.objects.create(direction="O", text="text")
        return Transmission.objects.create(
            message=message, connection=person, status=status, **columns
        )

    return outbound


@pytest.fixture
def inbound(person):
    """A function that stores one inbound message with its transmission."""

    def inbound(status, **columns):
        message = Message.objects.create(direction="I", text="text", status=status, **columns)
        message.updated = now()  # by the clock of those who write it next
        Message.objects.filter(pk=message.pk).update(updated=message.updated)
        Transmission.objects.create(message=message, connection=person, status=status)
        return message

    return inbound


def take(row, *others):
    """Take rows, under a claim of their own."""
    claim = uuid.uuid4()
    ids = [row.pk, *(other.pk for other in others)]
    return claim, Transmission.objects.take(claim, row.message_id, ids)


# Taking what is to be sent

TAKEN = {
    "Q": {"status": Status.QUEUED},
    "E, due": {"status": Status.ERRORED, "due_in": -MINUTE},
    "E, due at this moment": {"status": Status.ERRORED, "due_in": timedelta()},
}
NOT_TAKEN = {
    "E, not yet due": {"status": Status.ERRORED, "due_in": MINUTE},
    "E, given up": {"status": Status.ERRORED},
    "P": {"status": Status.PROCESSING},
    "P, with an old date": {"status": Status.PROCESSING, "due_in": -MINUTE},
    "S": {"status": Status.SENT},
    "D": {"status": Status.DELIVERED},
    "R": {"status": Status.RECEIVED},
}


def store(outbound, status, due_in=None):
    return outbound(status, next_try=None if due_in is None else now() + due_in)


@pytest.mark.parametrize("columns", TAKEN.values(), ids=TAKEN)
def test_take_moves_to_p(outbound, columns):
    row = store(outbound, **columns)
    claim, taken = take(row)
    assert taken == [(row.pk, row.connection.identity, 1)]
    row.refresh_from_db()
    assert (row.status, row.claim, row.attempts) == ("P", claim, 1)
    assert row.next_try is None


@pytest.mark.parametrize("columns", NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_take_leaves_alone(outbound, columns):
    row = store(outbound, **columns)
    before = Transmission.objects.values().get(pk=row.pk)
    _, taken = take(row)
    assert taken == []
    assert Transmission.objects.values().get(pk=row.pk) == before


def test_every_status_is_either_taken_or_not():
    known = {columns["status"] for columns in [*TAKEN.values(), *NOT_TAKEN.values()]}
    assert known == set(Status)


def test_a_second_take_gets_nothing(outbound):
    row = outbound("Q")
    first, _ = take(row)
    assert take(row)[1] == []
    row.refresh_from_db()
    assert (row.claim, row.attempts) == (first, 1)


def test_take_moves_rows_of_its_own_message_alone(outbound):
    row, other = outbound("Q"), outbound("Q")
    assert take(row, other)[1] == [(row.pk, row.connection.identity, 1)]
    other.refresh_from_db()
    assert other.status == "Q"


def test_take_of_rows_that_are_gone_gets_nothing(outbound):
    row = outbound("Q")
    Transmission.objects.all().delete()
    assert take(row)[1] == []


# Finishing it


def finish_sent(row, claim):
    return Transmission.objects.finish_sent(claim, [row.pk])


def finish_errored(row, claim):
    return Transmission.objects.finish_errored(claim, [row.pk], "refused", now() + MINUTE)


FINISHING = [finish_sent, finish_errored]


def test_finish_sent_moves_to_s(outbound):
    row = outbound("Q", error="of the last try")
    claim, _ = take(row)
    assert finish_sent(row, claim) == 1
    row.refresh_from_db()
    assert (row.status, row.claim, row.error) == ("S", None, "")
    assert row.sent == row.updated > row.date


def test_release_moves_p_back_to_q(outbound):
    row = outbound("Q")
    claim, _ = take(row)
    assert Transmission.objects.release(uuid.uuid4(), [row.pk]) == 0
    assert Transmission.objects.release(claim, [row.pk]) == 1
    row.refresh_from_db()
    assert (row.status, row.claim, row.attempts) == ("Q", None, 1)


def test_finish_errored_moves_to_e(outbound):
    row = outbound("Q")
    claim, _ = take(row)
    row.refresh_from_db()
    taken_at = row.updated
    assert finish_errored(row, claim) == 1
    row.refresh_from_db()
    assert (row.status, row.claim, row.error, row.sent) == ("E", None, "refused", None)
    assert row.updated > taken_at
    assert row.next_try > now()


@pytest.mark.parametrize("finish", FINISHING)
@pytest.mark.parametrize("status", [status for status in Status if status != "P"])
def test_finishing_moves_p_alone(outbound, status, finish):
    claim = uuid.uuid4()
    row = outbound(status, claim=claim)
    before = Transmission.objects.values().get(pk=row.pk)
    assert finish(row, claim) == 0
    assert Transmission.objects.values().get(pk=row.pk) == before


@pytest.mark.parametrize("finish", FINISHING)
def test_finishing_needs_the_claim(outbound, finish):
    row = outbound("Q")
    claim, _ = take(row)
    assert finish(row, uuid.uuid4()) == 0
    row.refresh_from_db()
    assert (row.status, row.claim) == ("P", claim)


# Sending again, on request


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", [None, now() + MINUTE], ids=["given up", "to be tried"])
def test_resend_moves_e_to_q_alone(outbound, status, next_try):
    row = outbound(status, next_try=next_try, attempts=6, error="refused")
    before = Transmission.objects.values().get(pk=row.pk)
    count, messages = delivery.resend(Transmission.objects.all())
    row.refresh_from_db()
    if status == "E":
        assert (count, messages) == (1, [row.message_id])
        assert (row.status, row.attempts, row.next_try) == ("Q", 0, None)
        assert row.updated > before["updated"]
        assert Message.objects.get().status == "P"
    else:
        assert (count, messages) == (0, [])
        assert Transmission.objects.values().get(pk=row.pk) == before


def test_resend_leaves_errored_inbound_messages_alone(inbound):
    inbound("E")
    assert delivery.resend(Transmission.objects.all()) == (0, [])
    assert Transmission.objects.get().status == "E"


# Inbound


@pytest.mark.parametrize("status", Status)
def test_take_inbound_takes_q_alone_and_leaves_it_q(inbound, status):
    message = inbound(status)
    claim = Message.objects.take_inbound(message.pk)
    message.refresh_from_db()
    assert message.status == status
    if status == "Q":
        assert (message.claim, message.attempts) == (claim, 1)
        assert message.due > now()
    else:
        assert (claim, message.claim, message.attempts) == (None, None, 0)


def test_take_inbound_takes_nothing_that_is_held_or_gone_or_outbound(inbound, outbound):
    message = inbound("Q")
    assert Message.objects.take_inbound(message.pk)
    assert Message.objects.take_inbound(message.pk) is None
    assert Message.objects.take_inbound(message.pk + 1) is None
    assert Message.objects.take_inbound(outbound("Q").message_id) is None


@pytest.mark.parametrize(("to", "error"), [(Status.RECEIVED, ""), (Status.ERRORED, "reason")])
@pytest.mark.parametrize("status", Status)
def test_finish_inbound_moves_a_held_q_alone(inbound, status, to, error):
    claim = uuid.uuid4()
    message = inbound(status, claim=claim)
    before = message.updated
    moved = Message.objects.finish_inbound(message.pk, claim, to, error)
    message.refresh_from_db()
    if status == "Q":
        assert moved
        assert (message.status, message.error, message.claim) == (to, error, None)
        assert message.updated > before
    else:
        assert not moved
        assert (message.status, message.error, message.claim) == (status, "", claim)


def test_finish_inbound_needs_the_claim(inbound):
    message = inbound("Q", claim=uuid.uuid4())
    assert not Message.objects.finish_inbound(message.pk, uuid.uuid4(), Status.RECEIVED)
    message.refresh_from_db()
    assert message.status == "Q"


@pytest.mark.parametrize("status", Status)
def test_reprocess_moves_e_to_q_alone(inbound, status):
    message = inbound(status, error="reason", attempts=1)
    before = message.updated
    moved = delivery.reprocess(Message.objects.all())
    message.refresh_from_db()
    row = message.transmissions.get()
    if status == "E":
        assert moved == [message.pk]
        assert (message.status, message.error, message.claim, row.status) == ("Q", "", None, "Q")
        assert message.updated > before
        assert row.updated > row.date
    else:
        assert moved == []
        assert (message.status, message.error, row.status) == (status, "reason", status)


def test_reprocess_leaves_errored_outbound_messages_alone():
    message = Message.objects.create(direction="O", text="text", status="E")
    assert delivery.reprocess(Message.objects.all()) == []
    message.refresh_from_db()
    assert message.status == "E"
