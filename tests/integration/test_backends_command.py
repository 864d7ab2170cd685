"""``manage.py backends`` shows, pauses and resumes."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState

pytestmark = pytest.mark.django_db


def said(*arguments):
    output = StringIO()
    call_command("backends", *arguments, stdout=output)
    return output.getvalue().splitlines()


def test_it_shows_how_each_backend_is(worker, people, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    with worker.commit():
        send("news", [*people(3), *people(2, "other")])
    waiting = "called; {} waiting, 0 in flight"
    assert said() == [f"{name}: {waiting.format(1)}" for name in ("other", "phones")]
    worker.work()
    assert said() == [f"{name}: {waiting.format(0)}" for name in ("other", "phones")]


def test_it_pauses_and_resumes(worker, people, calls):
    (person,) = people(1)
    assert said("--pause", "phones") == ["phones: paused; 0 waiting, 0 in flight"]
    with worker.commit():
        send("news", person)
    worker.work()
    assert calls == []
    with worker.commit():
        assert said("--resume", "phones") == ["phones: called; 1 waiting, 0 in flight"]
    worker.work()
    assert len(calls) == 1


def test_it_says_until_when_a_backend_is_left_alone(person):
    until = now() + timedelta(hours=1)
    state = BackendState.objects.create(backend=person.backend, failures=3, closed_until=until)
    (line,) = said()
    assert line.startswith(f"phones: left alone until {until:%Y-%m-%d %H:%M:%S}")
    state.closed_until = now()
    state.save()
    assert said()[0].startswith("phones: being tried;")


def test_a_name_that_is_none_is_an_error_that_names_those_there_are(person):
    with pytest.raises(CommandError, match="no backend 'fones'; there are: phones"):
        said("--pause", "fones")
    assert not BackendState.objects.exists()
