"""Every legal move, and that no other status moves."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.engine.portable import Portable
from rapidsms_db_router.inbound.again import reprocess
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.outbound.again import resend

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
#: When another try follows, from now on.
ERRORED = [None, MINUTE]


@pytest.fixture(params=[engine, Portable], ids=["own", "portable"])
def statements(request):
    """The statements of this database, and those that every database understands."""
    return request.param()


@pytest.fixture
def outbound(person):
    """A function that stores one outbound transmission."""

    def outbound(status, next_try=None, **columns):
        if next_try is not None:
            columns["next_try"] = now() + next_try
        message = Message.objects.create(direction="O", text="text")
        row = Transmission.objects.create(
            message=message, connection=person, status=status, **columns
        )
        row.updated = now()  # by the clock of those who write it next
        Transmission.objects.filter(pk=row.pk).update(updated=row.updated)
        return row

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


def columns(row):
    return type(row).objects.values().get(pk=row.pk)


# The moves of a sender: the statuses that each leaves, and the status that it enters


def mark_processing(statements, row):
    return len(statements.mark_processing([row.pk]))


def mark_sent(statements, row):
    return statements.mark_sent([row.pk], now(), {})


def requeue(statements, row):
    return statements.requeue([row.pk])


def mark_errored(statements, row):
    statements.mark_errored({row.pk: ("refused", now() + MINUTE)})
    return columns(row)["error"] == "refused"


def give_up(statements, row):
    statements.mark_errored({row.pk: ("refused", None)})
    return columns(row)["error"] == "refused"


MOVES = {
    mark_processing: ("Q", "P"),
    # recovery may have requeued what a slow sender has sent after all
    mark_sent: ("PQ", "S"),
    requeue: ("P", "Q"),
    mark_errored: ("P", "E"),
    give_up: ("P", "E"),
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
def test_a_sender_moves_these_statuses_alone(statements, outbound, move, status):
    leaves, enters = MOVES[move]
    row = outbound(status, attempts=1, error="of the last try")
    before = columns(row)
    moved = move(statements, row)
    after = columns(row)
    if status in leaves:
        assert moved == 1
        assert after["status"] == enters
        assert after["updated"] > before["updated"]
    else:
        assert moved == 0
        assert after == before


def test_a_call_counts_as_a_try(statements, outbound):
    row = outbound("Q", attempts=2)
    assert statements.mark_processing([row.pk]) == {row.pk}
    assert columns(row)["attempts"] == 3


def test_a_second_sender_moves_nothing(statements, outbound):
    row = outbound("Q")
    statements.mark_processing([row.pk])
    assert statements.mark_processing([row.pk]) == set()
    assert columns(row)["attempts"] == 1


def test_rows_that_are_gone_move_nowhere(statements, outbound):
    row = outbound("Q")
    Transmission.objects.all().delete()
    assert statements.mark_processing([row.pk]) == set()
    assert statements.mark_sent([row.pk], now(), {row.pk: "7f3a"}) == 0
    assert statements.requeue([row.pk]) == 0
    statements.mark_errored({row.pk: ("refused", None)})


def test_what_is_sent_has_a_date_and_no_error(statements, outbound):
    row = outbound("P", error="of the last try")
    moment = now()
    statements.mark_sent([row.pk], moment, {})
    row.refresh_from_db()
    assert (row.sent, row.updated, row.error) == (moment, moment, "")


def test_what_is_sent_has_the_id_of_the_gateway_if_that_has_said_it(statements, outbound):
    rows = [outbound("P", external_id=each) for each in ("earlier", None, "kept", None)]
    said = {rows[0].pk: "a", rows[1].pk: "b"}
    assert statements.mark_sent([row.pk for row in rows], now(), said) == 4
    found = [columns(row) for row in rows]
    assert [row["external_id"] for row in found] == ["a", "b", "kept", None]
    assert {row["status"] for row in found} == {"S"}


def test_what_goes_back_to_q_has_not_been_tried(statements, outbound):
    row = outbound("P", attempts=3)
    statements.requeue([row.pk])
    assert columns(row)["attempts"] == 2


def test_an_error_has_its_reason_and_its_date(statements, people):
    message = Message.objects.create(direction="O", text="text")
    first, second, _ = rows = [
        Transmission.objects.create(message=message, connection=each, status="P")
        for each in people(3)
    ]
    date = now() + MINUTE
    statements.mark_errored({first.pk: ("busy", date), second.pk: ("barred", None)})
    for row in rows:
        row.refresh_from_db()
    assert [(row.status, row.error, row.next_try) for row in rows] == [
        ("E", "busy", date),
        ("E", "barred", None),
        ("P", "", None),
    ]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", ERRORED, ids=["given up", "to be tried"])
def test_what_has_a_date_leaves_e_when_it_is_claimed(statements, outbound, status, next_try):
    row = outbound(status, next_try=next_try, attempts=1)
    before = columns(row)
    moved = statements.requeue_errored([row.pk])
    if status == "E" and next_try:
        assert moved == 1
        after = columns(row)
        assert (after["status"], after["next_try"], after["attempts"]) == ("Q", None, 1)
    else:
        assert (moved, columns(row)) == (0, before)


@pytest.mark.parametrize("error", ["", "HTTPError: HTTP 500"])
@pytest.mark.parametrize("status", Status)
def test_only_q_is_to_be_called(statements, outbound, status, error):
    row = outbound(status, attempts=2, error=error)
    recipient = (row.pk, row.connection_id, row.connection.identity, 2, bool(error))
    found = statements.recipients([row.pk], row.connection.backend_id)
    assert found == ([recipient] if status == "Q" else [])


# Claims of batches


@pytest.fixture
def batch(outbound):
    row = outbound("Q")
    return Batch.objects.create(
        message=row.message, backend=row.connection.backend, transmission_ids=[row.pk]
    )


def claim(statements, batch, token, **options):
    return [each.pk for each in statements.claim_batches(batch.backend_id, token, 5, **options)]


def test_a_batch_is_claimed_once(statements, batch):
    token = uuid.uuid4()
    assert claim(statements, batch, token) == [batch.pk]
    assert claim(statements, batch, uuid.uuid4()) == []
    batch.refresh_from_db()
    assert batch.claim_token == token
    assert batch.recover_at > now()


@pytest.mark.parametrize("later", [True, False])
def test_a_batch_is_claimed_from_its_date_on(statements, batch, later):
    Batch.objects.update(ready_at=now() + (MINUTE if later else -MINUTE))
    assert claim(statements, batch, uuid.uuid4()) == ([] if later else [batch.pk])


def test_batches_of_others_and_of_other_kinds_are_left_alone(statements, batch, people):
    (elsewhere,) = people(1, "elsewhere")
    other = Batch(backend=elsewhere.backend)
    assert claim(statements, other, uuid.uuid4()) == []
    assert claim(statements, batch, uuid.uuid4(), only=[batch.pk + 1]) == []
    assert claim(statements, batch, uuid.uuid4(), replies=True) == []
    Batch.objects.update(position=-1)
    assert claim(statements, batch, uuid.uuid4(), only=[batch.pk], replies=True) == [batch.pk]


def test_batches_are_claimed_in_the_order_of_the_queue(statements, batch):
    of = {"message": batch.message, "backend": batch.backend, "transmission_ids": []}
    third, reply, fourth = (Batch.objects.create(**of, position=n) for n in (1, -1, 2))
    wanted = [reply.pk, batch.pk, third.pk, fourth.pk]
    assert claim(statements, batch, uuid.uuid4()) == wanted


def test_a_claim_is_held_by_its_token_alone(statements, batch):
    token = uuid.uuid4()
    claim(statements, batch, token)
    assert statements.hold({batch.pk: token}) == {batch.pk: False}
    assert statements.hold({batch.pk: uuid.uuid4()}) == {}
    assert statements.hold({batch.pk: token, batch.pk + 1: token}) == {batch.pk: False}


def test_renewing_moves_the_end_of_a_lease_by_its_token_alone(statements, batch):
    token = uuid.uuid4()
    claim(statements, batch, token)
    Batch.objects.update(recover_at=now())
    before = columns(batch)
    statements.renew({batch.pk: uuid.uuid4()})
    assert columns(batch) == before
    statements.renew({batch.pk: token})
    assert columns(batch)["recover_at"] > before["recover_at"] + MINUTE


# Sending again, on request


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", ERRORED, ids=["given up", "to be tried"])
def test_resend_moves_e_to_q_alone(outbound, status, next_try):
    row = outbound(status, next_try=next_try, attempts=6, error="refused")
    before = columns(row)
    count, messages = resend(Transmission.objects.all())
    row.refresh_from_db()
    if status == "E":
        assert (count, messages) == (1, [row.message_id])
        assert (row.status, row.attempts, row.next_try) == ("Q", 0, None)
        assert row.updated > before["updated"]
        assert Message.objects.get().status == "P"
    else:
        assert (count, messages) == (0, [])
        assert columns(row) == before


def test_resend_leaves_errored_inbound_messages_alone(inbound):
    inbound("E")
    assert resend(Transmission.objects.all()) == (0, [])
    assert Transmission.objects.get().status == "E"


# Giving up, and what gateways report


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", ERRORED, ids=["given up", "to be tried"])
def test_discard_gives_up_what_would_be_sent_alone(outbound, status, next_try):
    row = outbound(status, next_try=next_try)
    before = columns(row)
    moved = Transmission.objects.discard("cancelled", now())
    if status == "Q" or (status == "E" and next_try):
        after = columns(row)
        assert moved == 1
        assert (after["status"], after["error"], after["next_try"]) == ("E", "cancelled", None)
    else:
        assert (moved, columns(row)) == (0, before)


@pytest.mark.parametrize("attempts", [0, 1])
@pytest.mark.parametrize("status", Status)
def test_deliver_moves_what_was_handed_over_to_d_once(outbound, status, attempts):
    row = outbound(status, attempts=attempts)
    before, moment = columns(row), now()
    moved = Transmission.objects.deliver(moment)
    if status in "PS" or (status in "QE" and attempts):
        after = columns(row)
        assert (moved, after["status"], after["delivered"]) == (1, "D", moment)
    else:
        assert (moved, columns(row)) == (0, before)


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("attempts", [0, 1])
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", ERRORED, ids=["given up", "to be tried"])
def test_fail_moves_what_was_tried_and_is_not_over(outbound, status, next_try, attempts, part):
    row = outbound(status, next_try=next_try, attempts=attempts, delivered=now())
    before = columns(row)
    moved = Transmission.objects.fail("failed", part=part)
    waits = status == "Q" or (status == "E" and next_try is not None)
    if status in "PS" or (waits and attempts) or (part and status == "D"):
        after = columns(row)
        assert moved == 1
        assert (after["status"], after["error"], after["next_try"]) == ("E", "failed", None)
        assert after["delivered"] is None
    else:
        assert (moved, columns(row)) == (0, before)


@pytest.mark.parametrize("attempts", [0, 1])
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("next_try", ERRORED, ids=["given up", "to be tried"])
def test_accept_moves_what_was_tried_and_would_be_tried_again(outbound, status, next_try, attempts):
    row = outbound(status, next_try=next_try, attempts=attempts)
    before = columns(row)
    moved = Transmission.objects.accept()
    if attempts and (status == "Q" or (status == "E" and next_try)):
        after = columns(row)
        assert moved == 1
        assert (after["status"], after["error"], after["next_try"]) == ("S", "", None)
    else:
        assert (moved, columns(row)) == (0, before)


# Inbound


@pytest.mark.parametrize("status", Status)
def test_claim_inbound_claims_q_alone_and_leaves_it_q(statements, inbound, status):
    message, token = inbound(status), uuid.uuid4()
    claimed = statements.claim_inbound(message.pk, token)
    message.refresh_from_db()
    assert message.status == status
    if status == "Q":
        assert claimed == message
        assert [row.connection.backend.name for row in claimed.transmissions.all()] == ["phones"]
        assert (message.claim_token, message.attempts) == (token, 1)
        assert message.recover_at > now()
    else:
        assert (claimed, message.claim_token, message.attempts) == (None, None, 0)


def test_claim_inbound_claims_nothing_that_is_held_or_gone_or_outbound(
    statements, inbound, outbound
):
    message, other = inbound("Q"), outbound("Q").message_id
    assert statements.claim_inbound(message.pk, uuid.uuid4())
    assert statements.claim_inbound(message.pk, uuid.uuid4()) is None
    assert statements.claim_inbound(other + 1, uuid.uuid4()) is None
    assert statements.claim_inbound(other, uuid.uuid4()) is None


@pytest.mark.parametrize(("to", "error"), [(Status.RECEIVED, ""), (Status.ERRORED, "reason")])
@pytest.mark.parametrize("status", Status)
def test_finish_inbound_moves_a_claimed_q_alone(statements, inbound, status, to, error):
    token = uuid.uuid4()
    message = inbound(status, claim_token=token)
    before = message.updated
    moved = statements.finish_inbound(message.pk, token, to, error)
    message.refresh_from_db()
    row = message.transmissions.get()
    if status == "Q":
        assert moved
        assert (message.status, message.error, message.claim_token) == (to, error, None)
        assert message.updated > before
        assert row.status == to
    else:
        assert not moved
        assert (message.status, message.error, message.claim_token) == (status, "", token)
        assert row.status == status


def test_finish_inbound_needs_the_claim(statements, inbound):
    message = inbound("Q", claim_token=uuid.uuid4())
    assert not statements.finish_inbound(message.pk, uuid.uuid4(), Status.RECEIVED)
    message.refresh_from_db()
    assert message.status == "Q"


@pytest.mark.parametrize("status", Status)
def test_reprocess_moves_e_to_q_alone(inbound, status):
    message = inbound(status, error="reason", attempts=1)
    before = message.updated
    moved = reprocess(Message.objects.all())
    message.refresh_from_db()
    row = message.transmissions.get()
    if status == "E":
        assert moved == [message.pk]
        assert (message.status, message.error, row.status) == ("Q", "", "Q")
        assert (message.claim_token, message.attempts) == (None, 0)
        assert message.updated > before
    else:
        assert moved == []
        assert (message.status, message.error, row.status) == (status, "reason", status)


def test_reprocess_leaves_errored_outbound_messages_alone():
    message = Message.objects.create(direction="O", text="text", status="E")
    assert reprocess(Message.objects.all()) == []
    message.refresh_from_db()
    assert message.status == "E"
