"""``manage.py backends`` shows, pauses and resumes."""

from __future__ import annotations

from datetime import timedelta
from getpass import getuser
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits.overrides import limits_of
from rapidsms_db_router.models import BackendState, SlotLease

pytestmark = pytest.mark.django_db


def said(*arguments):
    output = StringIO()
    call_command("backends", *arguments, stdout=output)
    return output.getvalue().splitlines()


def shown(name, state, *, waiting=0, in_flight=0, left_behind=0):
    return (
        f"{name}: {state}; {waiting} batches waiting, {in_flight} calls in flight,"
        f" {left_behind} threads left behind"
    )


def test_it_shows_how_each_backend_is(worker, people, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    with worker.commit():
        send("news", [*people(3), *people(2, "other")])
    assert said() == [shown(name, "working", waiting=1) for name in ("other", "phones")]
    worker.work()
    assert said() == [shown(name, "working") for name in ("other", "phones")]


def test_it_counts_what_the_senders_have_in_flight_until_their_leases_end(person):
    def lease(seconds, **counts):
        expires_at = now() + timedelta(seconds=seconds)
        SlotLease.objects.create(backend=person.backend, expires_at=expires_at, **counts)

    lease(10, in_flight=3, abandoned=1)
    lease(10, in_flight=4)
    lease(-1, in_flight=50, abandoned=50)
    assert said() == [shown("phones", "working", in_flight=7, left_behind=1)]


def test_it_pauses_and_resumes(worker, people, calls):
    (person,) = people(1)
    (line,) = said("--pause", "phones", "--reason", "the gateway moves")
    assert line.startswith(f"phones: paused by manage.py backends ({getuser()}) since ")
    assert "(the gateway moves); 0 batches waiting" in line
    with worker.commit():
        send("news", person)
    worker.work()
    assert calls == []
    with worker.commit():
        assert said("--resume", "phones") == [shown("phones", "working", waiting=1)]
    worker.work()
    assert len(calls) == 1


def test_it_says_until_when_a_backend_is_left_alone_since_when_and_why(person):
    since, until = now() - timedelta(minutes=2), now() + timedelta(hours=1)
    state = BackendState.objects.create(
        backend=person.backend, failures=3, opened_at=since, open_until=until, reason="HTTP 503"
    )
    begun = f"out of order since {since:%Y-%m-%d %H:%M:%S} UTC (HTTP 503)"
    assert said() == [shown("phones", f"{begun}, tried again at {until:%Y-%m-%d %H:%M:%S} UTC")]
    state.open_until = now()
    state.save()
    assert said() == [shown("phones", f"{begun}, being tried again")]


def test_a_name_that_is_none_is_an_error_that_names_those_there_are(person):
    with pytest.raises(CommandError, match="no backend 'fones'; there are: phones"):
        said("--pause", "fones")
    assert not BackendState.objects.exists()


def test_it_sets_limits_and_gives_them_back(person):
    said("--limit", "phones", "--rate", "30/m", "--concurrency", "7", "--max-retries", "0")
    state = BackendState.objects.get()
    limits = limits_of(state, "phones")
    assert (limits.rate, limits.concurrency, limits.max_retries) == (0.5, 7, 0)
    said("--limit", "phones", "--rate", "default", "--concurrency", "default")
    limits = limits_of(BackendState.objects.get(), "phones")
    assert (limits.rate, limits.concurrency, limits.max_retries) == (None, 50, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "phones", "--concurrency", "\xb2"], "concurrency is"),
        (["--limit", "phones", "--rate", "fast"], "rate is 'fast'"),
        (["--limit", "phones", "--concurrency", "0"], "concurrency is 0"),
        (["--limit", "phones", "--concurrency", "many"], "concurrency is 'many'"),
        (["--limit", "phones", "--max-retries", "-1"], "max_retries is '-1'"),
        (["--rate", "3/s"], "say --limit"),
        (["--pause", "phones", "--until", "soon"], "--until is 'soon'"),
        (["--pause", "phones", "--until", "2020-01-01"], "over already"),
    ],
)
def test_it_names_what_is_wrong(person, arguments, words):
    with pytest.raises(CommandError, match=words):
        said(*arguments)
    assert not BackendState.objects.filter(paused=True).exists()
