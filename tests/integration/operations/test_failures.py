"""Failures are grouped, and a group is done again: after a look, once, by whoever may."""

from __future__ import annotations

import datetime

import pytest
from django.urls import reverse

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.models import BulkAction, Transmission
from rapidsms_db_router.operations.tallies import filling

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def failed(people, stored):
    """Five people who got nothing since the key had expired, and two whose number is wrong."""
    rows = [
        stored(each, status=Status.ERRORED, error=f"HTTPError: HTTP 403 for {each.identity}")
        for each in people(5)
    ]
    for each in people(7)[5:]:
        stored(each, status=Status.ERRORED, error="no such number")
    filling.fill()
    return rows


def group(client, reason="HTTPError: HTTP 403 for …", direction="O", **more):
    page = reverse("router-failures")
    since = client.get(page).context["since"].isoformat()
    given = {"backend": "phones", "direction": direction, "reason": reason, "since": since}
    return client.post(page, given | more)


def test_failures_are_grouped(operator, failed):
    text = operator().get(reverse("router-failures")).content.decode()
    assert "HTTPError: HTTP 403 for …" in text
    assert "no such number" in text
    assert "Send again" not in text
    assert (
        "Send again" in operator("resend_message").get(reverse("router-failures")).content.decode()
    )


def test_a_group_is_sent_again_after_a_look(operator, worker, people, stored, failed, calls):
    client = operator("resend_message", "see_personal")
    answer = group(client)
    action = BulkAction.objects.get()
    page = reverse("router-action", args=[action.pk])
    assert answer.url == page
    text = client.get(page).content.decode()
    assert "5 errored transmissions will be sent again." in text
    assert "Go: 5" in text
    assert people(1)[0].identity in text
    # what fails meanwhile is not among what was shown
    stored(people(8)[7], status=Status.ERRORED, error="HTTPError: HTTP 403 for +1")
    worker.work()
    assert calls == []
    with worker.commit():
        assert client.post(page, {"do": "start"}).status_code == 302
        client.post(page, {"do": "start"})
    worker.work()
    assert sorted(len(call.identities) for call in calls) == [1] * 5
    sent = Transmission.objects.filter(status=Status.SENT)
    assert set(sent) == set(failed)
    text = client.get(page).content.decode()
    assert "5 of 5 handled, 5 of them moved; asked for by user0." in text
    assert "user0" in client.get(reverse("router-actions")).content.decode()


def test_a_group_can_be_discarded(operator, worker, failed, calls):
    client = operator("resend_message")
    group(client)
    page = reverse("router-action", args=[BulkAction.objects.get().pk])
    client.post(page, {"do": "stop"})
    with worker.commit():
        client.post(page, {"do": "start"})
    worker.work()
    assert calls == []


def test_only_an_operator_who_may_does_anything(operator, failed):
    assert group(operator("see_personal")).status_code == 403
    group(operator("resend_message"))
    page = reverse("router-action", args=[BulkAction.objects.get().pk])
    assert operator().post(page, {"do": "start"}).status_code == 403
    assert BulkAction.objects.get().state == "prepared"


def test_texts_that_an_app_has_failed_on_are_processed_again(
    operator, worker, person, stored, received
):
    stored(person, status=Status.ERRORED, direction=Direction.INCOMING, text="ping", error="")
    Transmission.objects.update(error="")
    filling.fill()
    client = operator("reprocess_message")
    group(client, reason="", direction="I")
    with worker.commit():
        client.post(reverse("router-action", args=[BulkAction.objects.get().pk]), {"do": "start"})
    worker.work()
    assert [msg.text for msg in received] == ["ping"]


@pytest.mark.parametrize("more", [{"since": "soon"}, {"direction": "X"}, {"since": ""}])
def test_a_group_that_is_none_is_refused(operator, failed, more):
    assert group(operator("resend_message"), **more).status_code == 400


def test_a_group_that_is_empty_by_now_is_told(operator, failed):
    Transmission.objects.update(status=Status.SENT)
    answer = group(operator("resend_message"))
    assert answer.url == reverse("router-failures")
    assert not BulkAction.objects.exists()
