"""The circuit breaker: its states, and what leads from one to the other."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from rapidsms_db_router import backoff
from rapidsms_db_router.limits import circuit
from rapidsms_db_router.limits.circuit import FAILURES, SHORTEST_OPEN, TRIAL_MARGIN, Circuit, Outage
from rapidsms_db_router.models import BackendState

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
OUTAGE = Outage("ConnectionRefusedError")
# the first to ask the time asks the database
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch, settings):
    delay = backoff.delay
    monkeypatch.setattr(backoff, "delay", lambda attempts, seconds: delay(attempts, seconds, 0))
    settings.DB_ROUTER_RETRY_BACKOFF = 60


@pytest.fixture
def state():
    """The state of a backend, not stored."""
    return BackendState(backend_id=1)


def fail(state, times=1, outage=OUTAGE, trial=False):
    for _ in range(times):
        circuit.record_outage(state, outage, NOW, trial=trial)


def open_for(state):
    return (state.open_until - NOW).total_seconds()


def test_without_a_state_it_is_closed(state):
    assert circuit.state_of(None, NOW) is Circuit.CLOSED
    assert circuit.state_of(state, NOW) is Circuit.CLOSED


def test_it_opens_after_some_outages_in_a_row(state):
    fail(state, FAILURES - 1)
    assert circuit.state_of(state, NOW) is Circuit.CLOSED
    fail(state)
    assert circuit.state_of(state, NOW) is Circuit.OPEN
    assert (open_for(state), state.opened_at, state.reason) == (60, NOW, OUTAGE.reason)


def test_a_response_between_outages_begins_the_count_anew(state):
    for _ in range(5):
        fail(state, FAILURES - 1)
        assert circuit.record_response(state)
    assert circuit.state_of(state, NOW) is Circuit.CLOSED


def test_a_response_of_a_backend_that_works_changes_nothing(state):
    assert not circuit.record_response(state)


def test_it_is_half_open_once_its_time_has_passed(state):
    fail(state, FAILURES)
    moment = state.open_until
    assert circuit.state_of(state, moment - timedelta(microseconds=1)) is Circuit.OPEN
    assert circuit.state_of(state, moment) is Circuit.HALF_OPEN


def test_while_one_sender_makes_the_trial_it_is_open_for_the_others(state, settings):
    settings.INSTALLED_BACKENDS = {"phones": {"router.db.timeout": 20}}
    fail(state, FAILURES)
    moment = state.open_until
    circuit.begin_trial(state, "phones", moment)
    assert circuit.state_of(state, moment) is Circuit.OPEN
    after = moment + timedelta(seconds=20 + TRIAL_MARGIN)
    assert circuit.state_of(state, after) is Circuit.HALF_OPEN


def test_each_trial_that_fails_doubles_the_time_up_to_an_hour(state):
    fail(state, FAILURES)
    waits = [open_for(state)]
    for _ in range(8):
        fail(state, trial=True)
        waits.append(open_for(state))
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert state.opened_at == NOW


def test_a_trial_that_succeeds_closes_it(state):
    fail(state, FAILURES)
    fail(state, 3, trial=True)
    assert circuit.record_response(state)
    assert circuit.state_of(state, NOW) is Circuit.CLOSED
    assert (state.failures, state.failed_ids, state.reason) == (0, [], "")
    assert (state.opened_at, state.open_until) == (None, None)
    fail(state, FAILURES)
    assert open_for(state) == 60


def test_calls_in_flight_when_it_opened_change_nothing(state):
    fail(state, FAILURES)
    fail(state, 10)
    assert (open_for(state), state.failures) == (60, FAILURES)


@pytest.mark.parametrize("backoff_setting", [0, 0.01])
def test_it_is_open_for_a_second_at_least(state, settings, backoff_setting):
    settings.DB_ROUTER_RETRY_BACKOFF = backoff_setting
    fail(state, FAILURES)
    assert open_for(state) == SHORTEST_OPEN


# What the gateway asks for


@pytest.mark.parametrize(("wish", "seconds"), [(300, 300), (0, SHORTEST_OPEN), (0.2, 1)])
def test_it_opens_at_once_if_the_gateway_asks_for_time(state, wish, seconds):
    fail(state, outage=Outage("RetryLater", retry_after=wish))
    assert open_for(state) == seconds


@pytest.mark.parametrize(("wish", "seconds"), [(300, 300), (1, 120)])
def test_no_wish_shortens_the_time_after_a_trial(state, wish, seconds):
    fail(state, FAILURES)
    fail(state, outage=Outage("RetryLater", retry_after=wish), trial=True)
    assert open_for(state) == seconds


# What concerns the account, or one recipient


def test_it_opens_when_some_recipients_in_a_row_have_met_it(state):
    for recipient in range(FAILURES):
        assert circuit.state_of(state, NOW) is Circuit.CLOSED
        fail(state, 10, outage=Outage("HTTP 403", suspect=recipient))
    assert circuit.state_of(state, NOW) is Circuit.OPEN


def test_one_recipient_never_opens_it(state):
    fail(state, 100, outage=Outage("HTTP 404", suspect=7))
    assert circuit.state_of(state, NOW) is Circuit.CLOSED
    assert state.failures == 1


def test_a_recipient_in_between_that_gets_the_message_begins_the_count_anew(state):
    for recipient in range(20):
        fail(state, outage=Outage("HTTP 404", suspect=recipient))
        if recipient % 2:
            circuit.record_response(state)
    assert circuit.state_of(state, NOW) is Circuit.CLOSED


def test_a_trial_that_meets_it_keeps_it_open(state):
    for recipient in range(FAILURES):
        fail(state, outage=Outage("HTTP 403", suspect=recipient))
    fail(state, outage=Outage("HTTP 403", suspect=0), trial=True)
    assert open_for(state) == 120


def test_a_reason_is_kept_in_short(state):
    fail(state, FAILURES, outage=Outage("x" * 1000))
    assert state.reason == "x" * circuit.LONGEST_REASON
