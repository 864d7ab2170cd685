"""The status of a message is what RapidSMS would make of the same rows."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from rapidsms.models import Backend

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.status import (
    NO_RECIPIENTS,
    SOME_ERRORED,
    clear_errors,
    settle_unless_pending,
)

pytestmark = pytest.mark.django_db


def rule(direction: str, rows: tuple[str, ...]) -> str:
    """State RapidSMS's rule, with our one exception: a message to nobody is E."""
    if "E" in rows:
        return "E"
    if direction == "I":
        return "R" if all(row == "R" for row in rows) else "Q"
    if not rows:
        return "E"
    if any(row not in "SD" for row in rows):
        return "P"
    return "S" if "S" in rows else "D"


@pytest.mark.parametrize("direction", Direction.values)
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_set_status_gives_what_rapidsms_gives_for_every_combination(people, direction, size):
    message = Message.objects.create(direction=direction, text="text")
    rows = Transmission.objects.bulk_create(
        Transmission(message=message, connection=connection) for connection in people(size)
    )
    for statuses in combinations_with_replacement(Status.values, size):
        for row, status in zip(rows, statuses, strict=True):
            row.status = status
        Transmission.objects.bulk_update(rows, ["status"])
        expected = rule(direction, statuses)
        assert message.set_status() == expected, statuses
        assert Message.objects.get(pk=message.pk).status == expected, statuses


def outbound(people, statuses, **columns):
    message = Message.objects.create(direction="O", text="text", **columns)
    Transmission.objects.bulk_create(
        Transmission(message=message, connection=connection, status=status)
        for connection, status in zip(people(len(statuses)), statuses, strict=True)
    )
    return message


def test_set_status_returns_a_plain_letter(people):
    assert f"{outbound(people, 'SD').set_status()}" == "S"


def test_an_outbound_message_to_nobody_is_errored_with_the_reason():
    message = Message.objects.create(direction="O", text="text")
    assert message.set_status() == "E"
    assert Message.objects.get(pk=message.pk).error == NO_RECIPIENTS == "no recipients"


def test_sent_is_the_date_of_the_first_time_all_were_sent(people):
    message = outbound(people, "SS")
    message.set_status()
    first = message.sent
    assert first == message.updated
    message.transmissions.filter(pk=message.transmissions.first().pk).update(status="D")
    message.set_status()
    assert (message.status, message.sent, message.delivered) == ("S", first, None)
    message.transmissions.update(status="D")
    message.set_status()
    assert (message.status, message.sent) == ("D", first)
    assert message.delivered == message.updated > first


def test_delivered_at_once_has_both_dates(people):
    message = outbound(people, "DD")
    message.set_status()
    assert message.sent == message.delivered == message.updated


@pytest.mark.parametrize("statuses", ["QS", "PS", "ES", "EE", "Q"])
def test_a_message_that_is_not_all_sent_has_no_date_of_sending(people, statuses):
    message = outbound(people, statuses)
    message.set_status()
    message.refresh_from_db()
    assert (message.sent, message.delivered) == (None, None)


def test_set_status_writes_its_own_columns_alone(people):
    message = outbound(people, "S")
    Message.objects.filter(pk=message.pk).update(text="changed meanwhile", external_id="7")
    message.set_status()
    message.refresh_from_db()
    assert (message.text, message.external_id, message.status) == ("changed meanwhile", "7", "S")


def test_set_status_of_a_stale_object_does_not_undo_what_others_wrote(people):
    message = outbound(people, "S")
    stale = Message.objects.get(pk=message.pk)
    message.set_status()
    message.transmissions.update(status="D")
    stale.set_status()
    assert (stale.status, stale.sent) == ("D", message.sent)


def test_set_status_of_a_deleted_message_ends_quietly(people):
    message = outbound(people, "S", status="P")
    Message.objects.all().delete()
    assert message.set_status() == "P"


def test_set_status_says_when(people):
    message = outbound(people, "S")
    before = Message.objects.get(pk=message.pk).updated
    message.set_status()
    assert Message.objects.get(pk=message.pk).updated > before


def test_an_inbound_message_keeps_its_error(people):
    message = Message.objects.create(direction="I", text="text", error="RuntimeError: no")
    Transmission.objects.create(message=message, connection=people(1)[0], status="E")
    assert message.set_status() == "E"
    assert Message.objects.get(pk=message.pk).error == "RuntimeError: no"


def pending(message, **columns):
    """Store a batch of a message."""
    Batch.objects.create(
        message=message, backend=Backend.objects.get(), transmission_ids=[], **columns
    )


def test_nothing_is_counted_while_batches_are_to_be_sent(people, django_assert_num_queries):
    message = outbound(people, "SS", status="P")
    pending(message)
    with django_assert_num_queries(1):
        settle_unless_pending([message])
    assert Message.objects.get(pk=message.pk).status == "P"


@pytest.mark.parametrize(
    ("errored", "given_up", "expected"),
    [(False, False, "P"), (True, False, "E"), (False, True, "E")],
)
def test_an_error_is_taken_back_once_nothing_is_errored(people, errored, given_up, expected):
    message = outbound(people, "SQ", status="E", given_up=given_up, error=SOME_ERRORED)
    pending(message)
    pending(message, errored=errored)
    clear_errors(message)
    stored = Message.objects.get(pk=message.pk)
    assert message.status == stored.status == expected
    assert message.error == stored.error == ("" if expected == "P" else SOME_ERRORED)


def test_a_message_that_is_not_errored_has_no_error_to_be_taken_back(people):
    message = outbound(people, "S", status="S")
    clear_errors(message)
    assert Message.objects.get(pk=message.pk).status == "S"


@pytest.mark.parametrize("given_up", [True, False])
def test_set_status_says_whether_anything_was_given_up(people, given_up):
    message = outbound(people, "SE")
    next_try = None if given_up else now()
    message.transmissions.filter(status="E").update(next_try=next_try)
    message.set_status()
    assert Message.objects.get(pk=message.pk).given_up is given_up


@pytest.mark.parametrize(("statuses", "expected"), [("SS", "S"), ("DD", "D"), ("SE", "E")])
def test_the_status_is_counted_once_no_batch_is_left(people, statuses, expected):
    message = outbound(people, statuses, status="P")
    settle_unless_pending([message])
    assert message.status == expected
    assert Message.objects.get(pk=message.pk).status == expected


def test_texts_of_rows_in_the_admin_are_short(people):
    message = Message(direction="O", text="x" * 100)
    assert str(message) == "x" * 60
    assert str(Transmission(pk=7, status="S")) == "7: Sent"
