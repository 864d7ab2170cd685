"""What waits is told by backend and reason, and moved or given up by whoever may."""

from __future__ import annotations

import datetime
import uuid

import pytest
from django.urls import reverse
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, Batch, BulkAction, Transmission
from rapidsms_db_router.operations import waiting
from rapidsms_db_router.outbound import pausing

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def waits(worker, people):
    """A function that stores a message that waits, as if it were of some time ago."""

    def waits(count=2, age=datetime.timedelta(0), text="news", errored=False, **dates):
        with worker.commit():
            message = send(text, people(count), **dates).database_message
        worker.take()
        if age:
            message.batches.update(due_at=now() - age)
        if errored:
            rows = Transmission.objects.filter(message=message)
            rows.update(status="E", error="busy", next_try=now() + HOUR)
            message.batches.update(errored=True, ready_at=now() + HOUR)
        return message

    return waits


@pytest.fixture
def one_of_each(waits):
    """Something that waits for each reason."""
    held = waits(6, age=2 * DAY)
    paused = waits(3)
    pausing.pause(paused.pk)
    return {
        "scheduled": waits(4, not_before=now() + HOUR),
        "retrying": waits(5, errored=True),
        "paused": paused,
        "held": held,
    }


def group_page(person, why):
    return reverse("router-waiting-group", args=[person.backend_id, why])


def told():
    return {each.why: (each.people, each.old, each.words) for each in waiting.groups()}


def test_what_waits_is_divided_by_reason(one_of_each):
    assert told() == {
        "scheduled": (4, 0, "scheduled for later"),
        "retrying": (5, 0, "will be tried again"),
        "paused": (3, 0, "paused broadcasts"),
        "held": (6, 6, "ready to be sent"),
    }
    for why, message in one_of_each.items():
        batches = waiting.batches(Batch.objects.first().backend, why)
        assert [batch.message_id for batch in batches] == [message.pk]


def test_a_date_that_only_the_gateway_has_set_holds_and_does_not_schedule(waits):
    """What is ready, and what its gateway has asked to wait for, is one group."""
    waits(1, age=2 * DAY)
    later = waits(2, age=DAY + HOUR)
    later.batches.update(ready_at=now() + HOUR)
    passed = waits(3, not_before=now() + HOUR)
    passed.batches.update(due_at=now() - HOUR)
    [group] = waiting.groups()
    assert (group.why, group.people, group.old) == ("held", 6, 3)
    assert group.since < now() - 2 * DAY
    assert group.next_at <= now()
    assert waiting.batches(group.backend, "held").count() == 3
    assert waiting.batches(group.backend, "held", DAY).count() == 2
    assert not waiting.batches(group.backend, "scheduled").exists()


def test_why_a_backend_holds_it_is_told(waits, person):
    waits()
    state = BackendState.objects.create(backend=person.backend, rate="1/m")
    assert told()["held"][2] == "held by the rate"
    state.open_until = now() + HOUR
    state.save()
    assert told()["held"][2] == "held by an open circuit"
    operators.pause(person.backend)
    assert told()["held"][2] == "held by a pause of the backend"


def test_pages_show_counts_and_lead_to_what_waits(operator, person, one_of_each):
    client = operator("see_personal")
    text = client.get(reverse("router-waiting")).content.decode()
    for why in waiting.WHYS:
        page = group_page(person, why)
        assert page in text
        shown = client.get(page).content.decode()
        assert reverse("router-conversation", args=[person.pk]) in shown
        assert person.identity in shown
        assert 'name="do"' not in shown
    assert "<h1>phones: ready to be sent</h1>" in shown
    assert "6 SMS wait, 6 of them for more than a day" in shown
    assert "In flight for too long" not in text
    masked = operator().get(page).content.decode()
    assert person.identity not in masked
    assert "news" not in masked


def test_a_long_group_has_pages(operator, waits, person, monkeypatch):
    monkeypatch.setattr("rapidsms_db_router.operations.views.waiting.ROWS", 2)
    texts = [waits(1, text=f"text {n}").text for n in range(5)]
    client, page, seen = operator("see_personal"), group_page(person, "held"), []
    while page:
        answer = client.get(page)
        seen += [each["batch"].message.text for each in answer.context["rows"]]
        after = answer.context["after"]
        page = after and f"{group_page(person, 'held')}?after={after}"
    assert seen == texts


@pytest.mark.parametrize(
    ("why", "kind", "permission"),
    [
        ("scheduled", "send_now", "pause_message"),
        ("retrying", "move", "pause_message"),
        ("held", "discard", "cancel_message"),
    ],
)
def test_only_whoever_may_does_anything_and_with_a_token(
    strict, person, one_of_each, why, kind, permission
):
    page, given = group_page(person, why), {"do": kind, "date": "2040-01-01T12:00"}
    other = {"pause_message", "cancel_message"} - {permission}
    for names, token in ((other, True), ([permission], False)):
        client = strict("see_personal", *names)
        csrf = client.get(page).cookies["csrftoken"].value
        more = {"csrfmiddlewaretoken": csrf} if token else {}
        assert client.post(page, given | more).status_code == 403
    assert not BulkAction.objects.exists()
    csrf = client.get(page).cookies["csrftoken"].value
    answer = client.post(page, given | {"csrfmiddlewaretoken": csrf})
    action = BulkAction.objects.get()
    assert answer.url == reverse("router-action", args=[action.pk])
    assert (action.state, action.total) == ("prepared", len(one_of_each[why].transmissions.all()))


def do(client, worker, page, **given):
    answer = client.post(page, given)
    text = client.get(answer.url).content.decode()
    with worker.commit():
        for _ in range(2):
            client.post(answer.url, {"do": "start"})
    worker.work()
    return text


def test_what_is_scheduled_is_sent_now_once(operator, worker, person, one_of_each, calls):
    operators.pause(person.backend)  # what is held is no part of it
    client = operator("pause_message")
    text = do(client, worker, group_page(person, "scheduled"), do="send_now")
    assert "4 transmissions that wait will be sent now." in text
    assert set(told()) == {"retrying", "paused", "held"}
    with worker.commit():
        operators.resume(person.backend)
    worker.sender.wake(person.backend)
    worker.step()
    message = one_of_each["scheduled"]
    assert set(message.transmissions.values_list("status", flat=True)) == {"S"}
    assert sum(len(call.identities) for call in calls) == 10


def test_what_is_retrying_is_moved_to_a_date(operator, worker, person, one_of_each):
    client, page = operator("pause_message"), group_page(person, "retrying")
    text = do(client, worker, page, do="move", date="2040-05-01T12:30", reason="they sleep")
    assert "The date is 2040-05-01 12:30:00." in text
    assert "Reason: they sleep" in text
    rows = one_of_each["retrying"].transmissions.all()
    assert {row.next_try.year for row in rows} == {2040}


@pytest.mark.parametrize("date", ["", "soon", "2020-01-01T12:00"])
def test_a_date_that_is_none_is_refused(operator, person, one_of_each, date):
    client, page = operator("pause_message"), group_page(person, "retrying")
    answer = client.post(page, {"do": "move", "date": date})
    assert answer.status_code == 200
    assert answer.context["form"].errors["date"]
    assert not BulkAction.objects.exists()


def test_only_what_is_older_is_given_up(operator, worker, person, waits):
    operators.pause(person.backend)
    waits(2, age=2 * DAY)
    waits(1, age=2 * HOUR)
    client, page = operator("cancel_message"), group_page(person, "held")
    text = do(client, worker, page, do="discard", older="day", reason="too old")
    assert "2 transmissions that wait will be given up." in text
    assert told()["held"][0] == 1
    errors = Transmission.objects.filter(status="E").values_list("error", flat=True)
    assert list(errors) == 2 * ["cancelled: too old"]
    answer = client.post(page, {"do": "discard", "older": "day"})
    assert answer.url == page
    assert BulkAction.objects.count() == 1


@pytest.mark.parametrize(("why", "kind"), [("held", "send_now"), ("held", "resend"), ("held", "")])
def test_an_action_that_does_not_fit_is_refused(operator, person, why, kind):
    client = operator("cancel_message", "pause_message", "resend_message")
    assert client.post(group_page(person, why), {"do": kind}).status_code == 400
    assert client.get(group_page(person, "bored")).status_code == 404


def test_calls_that_take_too_long_are_told(operator, person, stored, waits):
    row = stored(person, status="P")
    batch = Batch.objects.create(
        message=row.message,
        backend=person.backend,
        transmission_ids=[row.pk],
        claim_token=uuid.uuid4(),
        recover_at=now() + HOUR,
    )
    assert waiting.late() == []
    Transmission.objects.filter(pk=row.pk).update(updated=now() - HOUR)
    (late,) = waiting.late()
    assert (late.backend, late.people) == (batch.backend, 1)
    text = operator().get(reverse("router-waiting")).content.decode()
    assert "In flight for too long" in text


def test_pages_take_a_bounded_number_of_queries(
    operator, person, one_of_each, django_assert_max_num_queries
):
    client = operator("see_personal", "pause_message")
    for page in (reverse("router-waiting"), group_page(person, "held")):
        with django_assert_max_num_queries(12):
            client.get(page)
