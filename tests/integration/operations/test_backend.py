"""The page of a backend: paused, resumed after a question, limited and given back its settings."""

from __future__ import annotations

import datetime

import pytest
from django.urls import reverse
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, SlotLease
from rapidsms_db_router.operations import figures
from rapidsms_db_router.operations.tallies import filling
from tests.integration.stage import Stage

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def page(person):
    return reverse("router-backend", args=[person.backend_id])


@pytest.fixture
def resume(person):
    return reverse("router-resume", args=[person.backend_id])


def state():
    return BackendState.objects.get()


POSTS = [{"do": "pause"}, {"do": "limits", "rate": "5/s"}, {"do": "reset"}]


@pytest.mark.parametrize("given", POSTS, ids=[given["do"] for given in POSTS])
def test_only_whoever_may_steers_it_and_with_a_token(strict, page, person, given):
    operators.set_limits(person.backend, concurrency=3)
    before = BackendState.objects.values().get()
    for names in ([], ["pause_backend"]):
        client = strict("cancel_message", "pause_message", *names)
        shown = client.get(page)
        assert ('name="do"' in shown.content.decode()) == bool(names)
        assert client.post(page, given).status_code == 403  # without the token
        assert BackendState.objects.values().get() == before
    other = strict("see_personal")
    token = other.get(page).cookies["csrftoken"].value
    more = {"csrfmiddlewaretoken": token}
    assert other.post(page, given | more).status_code == 403
    assert BackendState.objects.values().get() == before
    for _ in range(2):
        token = client.get(page).cookies["csrftoken"].value
        more = {"csrfmiddlewaretoken": token}
        assert client.post(page, given | more).status_code == 302


def test_only_whoever_may_resumes_it_and_with_a_token(strict, resume, person):
    operators.pause(person.backend)
    client = strict("see_personal", "cancel_message")
    assert client.get(resume).status_code == 403
    assert client.post(resume).status_code == 403
    client = strict("pause_backend")
    assert client.get(resume).status_code == 200
    assert client.post(resume).status_code == 403
    assert state().paused


def test_it_is_paused_with_a_reason_and_an_end(operator, page, worker, people, calls):
    client = operator("pause_backend")
    given = {"do": "pause", "reason": "the gateway moves", "until": "2040-01-01T08:00"}
    assert client.post(page, given).status_code == 302
    with worker.commit():
        send("news", people(3))
    worker.work()
    assert calls == []
    text = client.get(page).content.decode()
    assert "paused by user0" in text
    assert "(the gateway moves)" in text
    assert state().paused_until.year == 2040
    answer = client.post(page, {"do": "pause", "until": "2020-01-01T08:00"})
    assert "This date has passed." in answer.content.decode()
    assert state().paused_until.year == 2040


def test_it_is_resumed_after_a_question(operator, page, resume, worker, people, calls):
    operators.pause(people(1)[0].backend)
    with worker.commit():
        old = send("old news", people(2)).database_message
        send("news", people(3))
    old.batches.update(due_at=now() - 48 * HOUR)
    worker.work()
    client = operator("pause_backend", "cancel_message")
    assert "Resume …" in client.get(page).content.decode()
    text = client.get(resume).content.decode()
    assert "5 SMS wait and will be sent, 2 of them are older than a day." in text
    assert "Give up the 2 that are older than a day …" in text
    group = reverse("router-waiting-group", args=[people(1)[0].backend_id, "held"])
    answer = client.post(group, {"do": "discard", "older": "day", "reason": "older than a day"})
    with worker.commit():
        client.post(answer.url, {"do": "start"})
    assert "3 SMS wait" in client.get(resume).content.decode()
    with worker.commit():
        for _ in range(2):
            assert client.post(resume).url == page
    worker.work()
    assert [len(call.identities) for call in calls] == [3]
    assert set(old.transmissions.values_list("error", flat=True)) == {"cancelled: older than a day"}


def test_limits_are_set_over_the_settings_and_given_back(
    operator, page, person, installed_backends
):
    installed_backends["phones"]["router.db.rate"] = "100/s"
    client = operator("pause_backend")
    assert "set here" not in client.get(page).content.decode()
    given = {"do": "limits", "rate": " 20/m ", "concurrency": "3", "max_retries": "0"}
    assert client.post(page, given).status_code == 302
    assert operators.overrides(state()) == {"rate": "20/m", "concurrency": 3, "max_retries": 0}
    text = client.get(page).content.decode()
    assert text.count("set here") == 3
    assert 'value="20/m"' in text
    assert "0.33/s" in text
    assert "100/s" in text
    assert "limits set here" in client.get(reverse("router-operations")).content.decode()
    assert client.post(page, {"do": "limits", "rate": "20/m"}).status_code == 302
    assert operators.overrides(state()) == {"rate": "20/m"}
    assert client.post(page, {"do": "reset"}).status_code == 302
    assert operators.overrides(state()) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", "fast"), ("rate", "0/s"), ("concurrency", "0"), ("concurrency", "x"),
     ("max_retries", "-1"), ("max_retries", "99999")],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused_by_name(operator, page, name, value):
    client = operator("pause_backend")
    answer = client.post(page, {"do": "limits", name: value})
    assert answer.status_code == 200
    assert answer.context["limits_form"].errors
    assert not operators.overrides(BackendState.objects.first())


def test_an_action_that_is_none_is_refused(operator, page):
    assert operator("pause_backend").post(page, {"do": "explode"}).status_code == 400
    missing = reverse("router-backend", args=[2**40])
    assert operator("pause_backend").post(missing, {"do": "pause"}).status_code == 404
    assert operator().get(missing).status_code == 404


def test_a_limit_holds_within_a_second_for_a_sender_that_is_busy(
    operator, page, worker, people, monkeypatch, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    client, stage = operator("pause_backend"), Stage(worker, monkeypatch)
    stage.store(people(100))
    stage.step()
    client.post(page, {"do": "limits", "concurrency": "1", "rate": "2/s"})
    stage.answer()
    stage.clock.go_on(1)
    before = stage.calls
    stage.play(seconds=4)
    assert before < 100
    assert 0 < stage.calls - before <= 9
    assert SlotLease.objects.get().pace > 0


def test_what_was_sent_of_late_is_told(operator, page, sent, person, stored):
    stored(person)
    filling.fill()
    SlotLease.objects.create(backend=person.backend, pace=2.5, expires_at=now() + HOUR)
    SlotLease.objects.create(backend=person.backend, pace=4, expires_at=now() + HOUR)
    (each,) = figures.backends()
    assert each.in_flight.pace == 6.5
    assert each.hour.segments_sent == 2
    assert "6.5 SMS segments a second now" in operator().get(page).content.decode()


def test_its_page_takes_a_bounded_number_of_queries(
    operator, page, person, stored, django_assert_max_num_queries
):
    stored(person)
    client = operator("pause_backend")
    with django_assert_max_num_queries(14):  # two of them are the session and its user
        client.get(page)
