"""A gateway out of order is told from a bad number: the table of ``outbound/response.py``."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import requests
from rapidsms.errors import MessageSendingError
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.errors import OutcomeUnknown, PermanentSendingError, RetryLater
from rapidsms_db_router.limits import operators
from rapidsms_db_router.limits.circuit import FAILURES
from rapidsms_db_router.models import BackendState, Batch, Transmission
from rapidsms_db_router.outbound.held import MOST_REFUSED
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.recovery import recover
from tests.integration.stage import Stage, state, statuses

pytestmark = pytest.mark.django_db

HOUR = 3600


def http_error(status, text="", **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(text, response=response)


@pytest.fixture
def options(installed_backends, settings):
    """The options of ``phones``: one recipient a call, a batch a call, one call at a time."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    installed_backends["phones"]["router.db.concurrency"] = 1
    return installed_backends["phones"]


@pytest.fixture
def stage(worker, monkeypatch, options):
    """A sender whose gateway answers what the test says."""
    return Stage(worker, monkeypatch)


def always(error):
    return lambda call: error


# The table


class Row(NamedTuple):
    """What follows when every call ends so."""

    error: Exception
    #: The status of a recipient, whether a date is set, and the tries that count.
    status: str
    date: bool
    attempts: int
    #: After how many calls the circuit opens.
    opens_after: float = math.inf
    after_crash: str = "resend"


E_, FOR_GOOD, Q_ = ("E", True, 1), ("E", False, 1), ("Q", False, 0)
TABLE = {
    "refused": Row(ConnectionRefusedError("no"), *Q_, FAILURES),
    "503": Row(http_error(503), *Q_, FAILURES),
    "500": Row(http_error(500), *Q_, FAILURES),
    "429": Row(http_error(429), *Q_, FAILURES),
    "RetryLater": Row(RetryLater("busy", 300), *Q_, 1),
    "Retry-After": Row(http_error(429, **{"Retry-After": "300"}), *Q_, 1),
    "401": Row(http_error(401), *E_, FAILURES),
    "404": Row(http_error(404), *E_, FAILURES),
    "time-out": Row(requests.ReadTimeout("no"), *E_, FAILURES),
    "cut": Row(ConnectionError("cut"), *E_, FAILURES),
    "502": Row(http_error(502), *E_, FAILURES),
    "504": Row(http_error(504), *E_, FAILURES),
    "unknown": Row(OutcomeUnknown("no"), *E_, FAILURES),
    "time-out, once": Row(requests.ReadTimeout("no"), *FOR_GOOD, FAILURES, "error"),
    "cut, once": Row(ConnectionError("cut"), *FOR_GOOD, FAILURES, "error"),
    "504, once": Row(http_error(504), *FOR_GOOD, FAILURES, "error"),
    "permanent": Row(PermanentSendingError("barred"), *FOR_GOOD),
    "400": Row(http_error(400), *FOR_GOOD),
    "recipient": Row(MessageSendingError("switched off"), *E_),
    "KeyError": Row(KeyError("id"), *E_),
}
every_row = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


@every_row
def test_what_becomes_of_one_recipient(stage, options, people, row):
    options["router.db.after_crash"] = row.after_crash
    message = stage.store(people(1))
    stage.step()
    stage.answer(always(row.error))
    stage.sender.step()
    found = message.transmissions.get()
    assert (found.status, found.attempts) == (row.status, row.attempts)
    assert (found.next_try is not None) is row.date
    lost = row.error in [each.error for each in TABLE.values() if each.after_crash == "error"]
    assert not lost or found.error.startswith("outcome unknown: ")
    message.refresh_from_db()
    assert message.status == ("P" if row.status == "Q" else "E")
    assert message.given_up is (row.status == "E" and not row.date)


@every_row
def test_what_becomes_of_the_circuit(stage, options, people, row):
    options["router.db.after_crash"] = row.after_crash
    message = stage.store(people(10))
    stage.play(always(row.error))
    if row.opens_after == math.inf:
        assert stage.calls == 10
        assert statuses(message) == 10 * row.status
        assert not BackendState.objects.filter(open_until__isnull=False).exists()
        return
    assert stage.calls == row.opens_after
    assert state().open_until > now()
    assert state().opened_at is not None
    assert operators.describe(Backend.objects.get()).startswith("out of order since ")
    # the others wait, and nobody holds them
    waiting = message.transmissions.filter(status="Q", attempts=0)
    assert waiting.count() >= 10 - row.opens_after
    assert not Batch.objects.claimed().exists()


@every_row
def test_recipients_after_a_failure_are_sent_the_message(stage, options, people, row):
    options["router.db.after_crash"] = row.after_crash
    message = stage.store(people(10))
    stage.play(always(row.error))
    stage.play(seconds=3 * HOUR)
    given_up = message.transmissions.filter(status="E")
    sent = message.transmissions.filter(status="S")
    assert given_up.count() + sent.count() == 10
    assert given_up.count() == (0 if row.status == "Q" or row.date else min(row.opens_after, 10))
    assert not Batch.objects.exists()
    assert not BackendState.objects.filter(open_until__isnull=False).exists()


# A gateway that is out of order


def test_it_is_tried_with_one_recipient_after_ever_longer_times(stage, people):
    message = stage.store(people(10))
    refused = always(ConnectionRefusedError("nobody there"))
    stage.play(refused)
    waits = []
    for tries in range(1, 5):
        waits.append((state().open_until - now()).total_seconds())
        stage.play(refused, seconds=waits[-1] - 1)
        assert stage.calls == FAILURES + tries - 1
        stage.play(refused, seconds=2)
        assert stage.calls == FAILURES + tries
    assert 45 <= waits[0] <= 75
    assert waits[0] < waits[1] < waits[2] < waits[3]
    # no recipient is the worse for it, and each trial is made with another one
    assert statuses(message) == 10 * "Q"
    assert set(message.transmissions.values_list("attempts", flat=True)) == {0}
    tried = stage.gateway.identities[-4:]
    assert len(set(tried)) == 4


def test_trials_of_one_batch_are_made_with_other_recipients(stage, people, settings, options):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    options["router.db.batch_size"] = 1
    stage.store(people(10))
    refused = always(ConnectionRefusedError("nobody there"))
    stage.play(refused, seconds=HOUR)
    tried = stage.gateway.identities
    assert len(tried) > FAILURES + 2
    assert len(set(tried[FAILURES:])) == len(tried) - FAILURES


def test_once_it_works_again_all_is_sent_at_once(stage, people):
    message = stage.store(people(30))
    stage.play(always(ConnectionRefusedError("nobody there")))
    seconds = (state().open_until - now()).total_seconds()
    stage.clock.go_on(seconds)
    stage.play(seconds=1)
    message.refresh_from_db()
    assert (message.status, statuses(message)) == ("S", 30 * "S")
    assert stage.calls == 30 + FAILURES
    assert not Batch.objects.exists()
    found = state()
    assert (found.failures, found.failed_ids, found.open_until) == (0, [], None)
    assert (found.opened_at, found.reason) == (None, "")
    # and all is as it was
    stage.store(people(1), "more")
    stage.play()
    assert stage.gateway.texts[-1] == "more"


def test_of_two_senders_one_makes_the_trial(worker, monkeypatch, options, people):
    options["router.db.concurrency"] = 20
    stage = Stage(worker, monkeypatch, senders=2)
    stage.store(people(40))
    stage.play(always(ConnectionRefusedError("nobody there")))
    tried = []
    for _ in range(3):
        before = stage.calls
        stage.clock.go_on((state().open_until - now()).total_seconds())
        for _ in range(10):
            stage.step()
            stage.clock.go_on(0.25)
        assert (stage.in_flight, stage.calls) == (1, before + 1)
        (call,) = (
            gateway.calls[number] for gateway in stage.gateways for number in gateway.in_flight
        )
        tried += [row.identity for row in call.rows]
        stage.answer(always(ConnectionRefusedError("nobody there")))
        stage.step()
    assert len(set(tried)) == len(tried) == 3


def test_a_trial_that_is_never_answered_leads_to_another_one(stage, options, people):
    options["router.db.timeout"] = 10
    message = stage.store(people(5))
    stage.play(always(ConnectionRefusedError("nobody there")))
    stage.clock.go_on((state().open_until - now()).total_seconds())
    stage.step()
    assert stage.in_flight == 1
    stage.clock.go_on(11)
    stage.step()
    assert state().open_until > now()
    stage.gateway.in_flight.clear()  # its thread is left behind
    stage.play(seconds=300)
    assert statuses(message) == 5 * "S"


def test_a_trial_whose_recipient_is_refused_closes_the_circuit(stage, people):
    message = stage.store(people(5))
    stage.play(always(ConnectionRefusedError("nobody there")))
    stage.clock.go_on((state().open_until - now()).total_seconds())
    stage.step()
    stage.answer(always(PermanentSendingError("barred")))
    stage.play(seconds=1)
    assert sorted(statuses(message)) == list("ESSSS")
    assert state().open_until is None


def test_calls_in_flight_when_the_circuit_opens_change_nothing_about_it(stage, options, people):
    options["router.db.concurrency"] = 10
    message = stage.store(people(10))
    stage.step()
    for _ in range(5):
        stage.gateway.answer(stage.gateway.in_flight[0], ConnectionRefusedError("nobody there"))
        stage.sender.step()
    first = state().open_until
    assert first is not None
    stage.answer(always(ConnectionRefusedError("nobody there")))
    stage.sender.step()
    assert state().open_until == first
    assert statuses(message) == 10 * "Q"


@pytest.mark.parametrize("open_for", [0, 10 * HOUR])
def test_a_reply_that_comes_meanwhile_is_sent_right_after_the_trial(
    stage, people, options, open_for
):
    stage.store(people(10))
    refused = always(ConnectionRefusedError("nobody there"))
    stage.play(refused)
    stage.play(refused, seconds=open_for)
    called = stage.calls
    stage.receive("ping", people(1)[0])
    stage.sender.step()
    assert stage.calls == called
    stage.clock.go_on((state().open_until - now()).total_seconds())
    stage.play(seconds=1)
    assert stage.gateway.texts[called + 1] == "pong"


def test_another_backend_goes_on(stage, people, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    stage.store(people(10))
    stage.play(always(ConnectionRefusedError("nobody there")))
    message = stage.store(people(5, "other"))
    stage.play()
    assert statuses(message) == "SSSSS"


def test_what_waits_is_found_by_recovery_if_its_sender_ends(stage, people, worker):
    message = stage.store(people(10))
    stage.play(always(ConnectionRefusedError("nobody there")))
    stage.senders.clear()
    stage.gateways.clear()
    stage.add_sender()
    stage.clock.go_on(2 * HOUR)
    recover()
    (doorbell,) = worker.take()
    stage.sender.wake(Backend.objects.get(pk=doorbell.kwargs["backend_id"]))
    stage.play(seconds=HOUR)
    assert statuses(message) == 10 * "S"


def test_to_resume_is_also_to_try_again_now(stage, people, worker):
    message = stage.store(people(10))
    stage.play(always(ConnectionRefusedError("nobody there")))
    backend = Backend.objects.get()
    operators.resume(backend)
    doorbells.publish_outbound(backend, message_id=0)
    (doorbell,) = worker.take()
    assert doorbell.kwargs["backend_id"] == backend.pk
    stage.wake()
    stage.play()
    assert statuses(message) == 10 * "S"


# What gateways ask for


@pytest.mark.parametrize(
    "error", [RetryLater("busy", 300), http_error(503, **{"Retry-After": "300"})]
)
def test_a_gateway_is_left_alone_for_as_long_as_it_says(stage, people, error):
    message = stage.store(people(10))
    stage.play(always(error))
    assert stage.calls == 1
    assert statuses(message) == 10 * "Q"
    assert state().open_until - now() == timedelta(seconds=300)
    stage.play(seconds=299)
    assert stage.calls == 1
    stage.play(seconds=2)
    assert statuses(message) == 10 * "S"
    assert set(message.transmissions.values_list("attempts", flat=True)) == {1}


def test_a_gateway_may_ask_for_hours(stage, people):
    message = stage.store(people(10))
    stage.play(always(RetryLater("busy", 3 * HOUR)))
    stage.play(seconds=3 * HOUR - 1)
    assert stage.calls == 1
    stage.play(seconds=2)
    assert statuses(message) == 10 * "S"


@pytest.mark.parametrize("wish", [0, 1, -10])
def test_no_wish_of_a_gateway_shortens_the_backoff(stage, people, wish):
    stage.store(people(10))
    busy = always(RetryLater("busy", wish))
    stage.play(busy)
    assert stage.calls == 1
    waits = []
    for _ in range(3):
        stage.play(busy, seconds=(state().open_until - now()).total_seconds() + 0.1)
        waits.append((state().open_until - now()).total_seconds())
    assert stage.calls == 4
    assert waits[0] > 40
    assert waits[0] < waits[1] < waits[2]


def test_no_wish_of_a_gateway_shortens_the_wait_of_a_recipient(stage, people):
    error = MessageSendingError("switched off")
    error.retry_after = 1
    message = stage.store(people(1))
    stage.play(always(error))
    assert message.transmissions.get().next_try - now() > timedelta(seconds=40)
    later = MessageSendingError("switched off")
    later.retry_after = 2 * HOUR
    message = stage.store(people(1))
    stage.play(always(later))
    assert message.transmissions.get().next_try - now() > timedelta(seconds=2 * HOUR - 1)


# A bad number is no gateway out of order


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    "error",
    [http_error(404), http_error(400), MessageSendingError("no"), PermanentSendingError("no")],
    ids=repr,
)
def test_bad_numbers_among_good_ones_do_not_open_the_circuit(
    stage, options, people, error, concurrency
):
    options["router.db.concurrency"] = concurrency
    everyone = people(40)
    bad = {person.identity for person in everyone[::4]}
    message = stage.store(everyone)
    stage.play(lambda call: error if call.rows[0].identity in bad else None)
    assert statuses(message) == 10 * "ESSS"
    assert stage.calls == 40
    assert not BackendState.objects.filter(open_until__isnull=False).exists()


def test_one_bad_number_again_and_again_does_not_open_the_circuit(stage, options, people):
    options["router.db.max_retries"] = 5
    message = stage.store(people(1))
    stage.play(always(http_error(404)), seconds=10 * HOUR)
    assert stage.calls == 6
    row = message.transmissions.get()
    assert (row.status, row.next_try, row.attempts) == ("E", None, 6)
    assert state().open_until is None


def test_recipients_that_are_refused_by_name_are_no_reason(stage, options, people):
    options["router.db.max_retries"] = 1
    message = stage.store(people(5))

    def refuse(call):
        named = [row.identity for row in call.rows]
        return MessageSendingError("refused", failed_identities=named)

    stage.play(refuse, seconds=HOUR)
    assert (statuses(message), stage.calls) == ("EEEEE", 10)
    assert not message.transmissions.filter(next_try__isnull=False).exists()
    assert state().open_until is None


def test_outages_with_something_sent_between_them_are_no_reason(stage, people):
    for number in range(2 * FAILURES):
        stage.store(people(1))
        stage.step()
        stage.answer(always(http_error(503)))
        stage.sender.step()
        stage.receive("ping", people(number + 2)[-1])
        stage.step()
        stage.answer()
        stage.sender.step()
    assert state().open_until is None
    assert stage.calls == 4 * FAILURES


# Our account


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("concurrency", [1, 20])
def test_a_wrong_password_makes_nobody_be_given_up(
    stage, options, people, settings, concurrency, batch_size
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200
    options |= {"router.db.concurrency": concurrency, "router.db.batch_size": batch_size}
    message = stage.store(people(200))
    wrong = always(http_error(403))
    stage.play(wrong)
    assert stage.calls <= FAILURES + concurrency
    before = stage.calls
    stage.play(wrong, seconds=24 * HOUR)
    # a trial an hour, at the longest backoff
    assert stage.calls - before <= 40
    assert not message.transmissions.filter(status="E", next_try=None).exists()
    assert state().reason == "HTTPError: HTTP 403"
    stage.play(seconds=3 * HOUR)
    assert statuses(message) == 200 * "S"


# Outcome unknown


@pytest.mark.parametrize("error", [requests.ReadTimeout("no"), http_error(504)], ids=repr)
def test_a_lost_answer_is_followed_by_a_bounded_number_of_tries(stage, options, people, error):
    options |= {"router.db.after_crash": "resend", "router.db.max_retries": 3}
    message = stage.store(people(1))
    stage.play(always(error), seconds=24 * HOUR)
    assert stage.calls == 4
    row = message.transmissions.get()
    assert (row.status, row.next_try, row.attempts) == ("E", None, 4)
    assert not Batch.objects.exists()
    # after the gateway's time the next message is sent
    following = stage.store(people(1), "more")
    stage.play(seconds=3 * HOUR)
    assert statuses(following) == "S"


def test_a_lost_answer_is_followed_by_no_try_where_nobody_may_get_it_twice(stage, options, people):
    options["router.db.after_crash"] = "error"
    message = stage.store(people(20))
    stage.play(always(requests.ReadTimeout("no")), seconds=24 * HOUR)
    identities = stage.gateway.identities
    assert len(set(identities)) == len(identities)
    rows = Transmission.objects.filter(connection__identity__in=identities)
    assert set(rows.values_list("status", "next_try", "attempts")) == {("E", None, 1)}
    assert all(row.error.startswith("outcome unknown: ") for row in rows)
    stage.play(seconds=3 * HOUR)
    sent = message.transmissions.filter(status="S")
    assert sent.count() == 20 - len(identities)


# What is permanent


def test_what_is_permanent_is_not_tried_again(stage, people):
    message = stage.store(people(5))
    stage.play(always(PermanentSendingError("barred")), seconds=HOUR)
    assert (statuses(message), stage.calls) == ("EEEEE", 5)
    for row in message.transmissions.all():
        assert (row.error, row.next_try) == ("PermanentSendingError: barred", None)


def bad_numbers(*bad: str) -> Any:
    def answer(call):
        found = [row for row in call.rows if row.identity in bad]
        return http_error(400, f"bad: {len(found)}") if found else None

    return answer


@pytest.fixture
def large_calls(options, settings):
    """Two hundred recipients a call."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 200


def test_bad_numbers_in_one_call_are_found_and_the_rest_is_sent(stage, large_calls, people):
    bad = ("+254700000003", "+254700000077")
    message = stage.store(people(100))
    stage.play(bad_numbers(*bad))
    errored = message.transmissions.filter(status="E")
    assert sorted(row.connection.identity for row in errored) == sorted(bad)
    for row in errored:
        assert (row.error, row.next_try, row.attempts) == ("HTTPError: bad: 1", None, 1)
    assert message.transmissions.filter(status="S").count() == 98
    assert stage.calls < 40
    taken = [
        row.identity
        for call in stage.gateway.calls
        if not {row.identity for row in call.rows} & set(bad)
        for row in call.rows
    ]
    assert len(taken) == len(set(taken)) == 98


def test_a_gateway_that_refuses_all_recipients_is_not_asked_for_each(stage, large_calls, people):
    message = stage.store(people(200))
    stage.play(always(http_error(400, "bad text")))
    assert statuses(message) == 200 * "E"
    assert stage.calls <= 2 * MOST_REFUSED + 1


def test_reasons_are_kept_for_each_recipient(stage, large_calls, people):
    first, second, third, fourth = everyone = people(4)
    message = stage.store(everyone)
    stage.step()
    stage.gateway.answer(
        0,
        returned={
            first.identity: "id-1",
            second.identity: PermanentSendingError("no such number"),
            third.identity: MessageSendingError("switched off"),
        },
    )
    stage.sender.step()
    rows = {row.connection: row for row in message.transmissions.all()}
    assert [rows[person].status for person in (first, second, third, fourth)] == list("SEES")
    assert rows[second].error == "PermanentSendingError: no such number"
    assert rows[third].error == "MessageSendingError: switched off"
    assert (rows[second].next_try, rows[third].next_try is None) == (None, False)
    assert message.batches.get().transmission_ids == [rows[third].pk]
