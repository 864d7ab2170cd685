"""The time is the database's, whatever the process's own clock says."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from rapidsms_db_router.db import clock
from rapidsms_db_router.models.lease import lease

pytestmark = pytest.mark.django_db

A_MOMENT = timedelta(seconds=2)


@pytest.fixture(autouse=True)
def _not_asked_yet(monkeypatch):
    monkeypatch.setattr(clock, "_asked_at", float("-inf"))
    monkeypatch.setattr(clock, "_epoch", 0.0)


@pytest.fixture
def half_a_minute_fast(monkeypatch):
    """The process's own clock is wrong."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 30)


def test_due_dates_do_not_depend_on_the_clock_of_the_process(settings, request):
    if connection.vendor == "sqlite":
        pytest.skip("has no clock of its own")
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 10
    expected = timezone.now() + timedelta(seconds=10)
    request.getfixturevalue("half_a_minute_fast")
    assert abs(lease() - expected) < A_MOMENT


def test_sqlite_has_the_clock_of_the_process(half_a_minute_fast):
    if connection.vendor != "sqlite":
        pytest.skip("has a clock of its own")
    assert abs(clock.now().timestamp() - time.time()) < 1


def test_the_database_is_asked_once_an_hour(monkeypatch, django_assert_num_queries):
    asking = connection.vendor in clock.QUERIES
    with django_assert_num_queries(asking):
        first = clock.now()
        assert timedelta(0) <= clock.now() - first < A_MOMENT
    started = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: started() + clock.TRUSTED_FOR + 1)
    with django_assert_num_queries(asking):
        # what was asked, not what was counted: for the database no hour has passed
        assert clock.now() - first < A_MOMENT


def let_pass(monkeypatch, name, seconds):
    """Have one of the machine's clocks go on."""
    clock_of_the_machine = getattr(time, name)
    monkeypatch.setattr(time, name, lambda: clock_of_the_machine() + seconds)


def test_time_passes_between_two_questions(monkeypatch, django_assert_num_queries):
    first = clock.now()
    let_pass(monkeypatch, "monotonic", 100)
    let_pass(monkeypatch, "time", 100)
    with django_assert_num_queries(0):
        assert abs(clock.now() - first - timedelta(seconds=100)) < A_MOMENT


def test_a_machine_that_was_suspended_asks_again(monkeypatch, django_assert_num_queries):
    clock.now()
    let_pass(monkeypatch, "time", 100)  # and the other clock stood still
    with django_assert_num_queries(connection.vendor in clock.QUERIES):
        clock.now()


@pytest.mark.parametrize("use_tz", [True, False])
def test_now_is_aware_or_naive_as_django_has_it(settings, use_tz):
    settings.USE_TZ = use_tz
    assert timezone.is_aware(clock.now()) is use_tz
    assert abs(clock.now() - timezone.now()) < A_MOMENT


def test_an_app_that_activates_a_time_zone_does_not_move_a_naive_clock(settings):
    settings.USE_TZ = False
    before = clock.now()
    with timezone.override("Pacific/Kiritimati"):
        assert abs(clock.now() - before) < A_MOMENT
