"""The page of one broadcast: it is paused, goes on, is cancelled and repeated, by whoever may."""

from __future__ import annotations

import datetime
import re

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rapidsms.router import receive, send

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, Batch, BulkAction, Message, Transmission
from rapidsms_db_router.operations import listing
from rapidsms_db_router.operations.broadcasts import progress

pytestmark = pytest.mark.django_db

MINUTE = datetime.timedelta(minutes=1)
ASKED = {
    "pause": "pause_message",
    "go_on": "pause_message",
    "cancel": "cancel_message",
    "repeat": "resend_message",
}


@pytest.fixture
def page(broadcast):
    return reverse("router-broadcast", args=[broadcast.pk])


def statuses(message):
    return "".join(message.transmissions.order_by("pk").values_list("status", flat=True))


@pytest.mark.parametrize("asked", ASKED)
def test_only_whoever_may_does_anything_and_with_a_token(strict, page, broadcast, asked):
    others = set(ASKED.values()) - {ASKED[asked]}
    before = Message.objects.get().paused_at, Batch.objects.count()
    assert strict("see_personal").post(page, {"do": asked}).status_code == 403
    client = strict(ASKED[asked])
    assert client.post(page, {"do": asked}).status_code == 403  # the token is missing
    assert (Message.objects.get().paused_at, Batch.objects.count()) == before
    assert not BulkAction.objects.exists()
    token = client.get(page).cookies["csrftoken"].value
    given = {"do": asked, "csrfmiddlewaretoken": token}
    assert client.post(page, given).status_code == 302
    other = strict(*others)
    token = other.get(page).cookies["csrftoken"].value
    assert other.post(page, {"do": asked, "csrfmiddlewaretoken": token}).status_code == 403


def test_buttons_are_there_for_whoever_may(operator, page):
    text = operator("see_personal").get(page).content.decode()
    assert "Clinic opens at 8." in text
    assert 'name="do"' not in text
    text = operator("pause_message", "cancel_message").get(page).content.decode()
    assert "Clinic opens" not in text
    assert 'value="pause"' in text
    assert "Pause, and cancel the rest …" in text


def test_a_pause_holds_for_what_workers_have_and_it_goes_on(
    operator, worker, page, broadcast, calls
):
    client = operator("pause_message")
    for _ in range(2):
        assert client.post(page, {"do": "pause"}).status_code == 302
    text = client.get(page).content.decode()
    assert "Paused since" in text
    assert 'value="go_on"' in text
    worker.work()
    assert (calls, statuses(broadcast)) == ([], 30 * "Q")
    with worker.commit():
        for _ in range(2):
            assert client.post(page, {"do": "go_on"}).status_code == 302
    worker.work()
    assert statuses(broadcast) == 30 * "S"
    assert sum(len(call.identities) for call in calls) == 30


def test_the_rest_is_cancelled_after_a_look_and_in_chunks(operator, worker, page, broadcast, calls):
    client = operator("cancel_message", "see_personal")
    answer = client.post(page, {"do": "cancel"})
    worker.work()
    assert calls == []
    text = client.get(answer.url).content.decode()
    assert "30 transmissions that wait will be given up." in text
    assert broadcast.transmissions.first().connection.identity in text
    assert "Go: 30" in text
    assert page in text
    assert statuses(broadcast) == 30 * "Q"
    with worker.commit():
        for _ in range(2):
            client.post(answer.url, {"do": "start"})
    worker.work()
    assert (calls, statuses(broadcast)) == ([], 30 * "E")
    assert set(broadcast.transmissions.values_list("error", flat=True)) == {"cancelled"}
    assert "30 transmissions that wait were given up." in client.get(answer.url).content.decode()
    again = client.post(page, {"do": "cancel"})
    assert again.url == page
    assert BulkAction.objects.get().state == "done"
    assert Message.objects.get().paused_at is None


def test_a_cancellation_that_is_discarded_leaves_it_paused(operator, worker, page, broadcast):
    client = operator("cancel_message", "pause_message")
    answer = client.post(page, {"do": "cancel"})
    client.post(answer.url, {"do": "stop"})
    worker.work()
    assert statuses(broadcast) == 30 * "Q"
    with worker.commit():
        client.post(page, {"do": "go_on"})
    worker.work()
    assert statuses(broadcast) == 30 * "S"


def test_it_is_repeated_to_those_who_failed(operator, worker, page, broadcast, calls):
    worker.work()
    calls.clear()
    ids = list(broadcast.transmissions.order_by("pk").values_list("pk", flat=True))
    failed = {"status": Status.ERRORED, "error": "HTTPError: HTTP 403"}
    Transmission.objects.filter(pk__in=ids[:3]).update(**failed)
    Transmission.objects.filter(pk__in=ids[3:5]).update(status="E", error="no such number")
    Transmission.objects.filter(pk__in=ids[5:9]).update(status="E", error="cancelled: too late")
    client = operator("resend_message")
    text = client.get(page).content.decode()
    assert "Repeat to 5 who failed …" in text
    for reason, count in (("no such number", 2), ("cancelled: too late", 4), (None, 5)):
        given = {"do": "repeat"} | ({} if reason is None else {"reason": reason})
        answer = client.post(page, given)
        text = client.get(answer.url).content.decode()
        assert f"{count} errored transmissions will be sent again." in text
    with worker.commit():
        for _ in range(2):
            client.post(answer.url, {"do": "start"})
    worker.work()
    assert statuses(broadcast) == "SSSSSEEEE" + 21 * "S"
    assert sum(len(call.identities) for call in calls) == 5
    assert client.post(page, {"do": "repeat"}).url == page


def test_the_counts_of_a_large_one_are_kept_for_a_while(broadcast, monkeypatch):
    monkeypatch.setattr(progress, "MANY", 30)
    monkeypatch.setattr(progress, "TIMES", 1e6)
    try:
        first = progress.progress(broadcast)
        Transmission.objects.update(status="E", error="no such number")
        second = progress.progress(broadcast)
        assert second.counts == first.counts
        assert second.counted_at == first.counted_at
        cache.clear()
        assert progress.progress(broadcast).counts["failed"] == 30
    finally:
        cache.clear()


def test_an_action_that_is_none_is_refused(operator, page):
    client = operator(*ASKED.values())
    assert client.post(page, {"do": "explode"}).status_code == 400
    assert client.post(page).status_code == 400
    missing = reverse("router-broadcast", args=[2**40])
    assert client.post(missing, {"do": "pause"}).status_code == 404


def test_a_message_to_a_few_has_a_page_and_is_paused_there(operator, worker, people):
    with worker.commit():
        message = send("to few", people(3)).database_message
    page = reverse("router-broadcast", args=[message.pk])
    client = operator("pause_message")
    assert client.post(page, {"do": "pause"}).status_code == 302
    text = client.get(page).content.decode()
    assert "Paused since" in text and "Message of" in text
    assert "to few" not in client.get(reverse("router-broadcasts")).content.decode()


def test_each_recipient_is_reached_from_the_list_and_from_any_conversation(
    operator, worker, people, person
):
    several = people(3)
    with worker.commit():
        message = send("to few", several).database_message
        send("to one", [several[0]])
    worker.work()
    failed = message.transmissions.order_by("pk")[1]
    Transmission.objects.filter(pk=failed.pk).update(status="E", error="no such number 0772123456")
    page = reverse("router-broadcast", args=[message.pk])
    client = operator("see_personal")
    listed = [reverse("router-messages")]
    listed += [reverse("router-conversation", args=[each.pk]) for each in several]
    counts = [client.get(url).content.decode().count(f'href="{page}"') for url in listed]
    # the message to one person has no such link
    assert counts == [3, 1, 1, 1]
    text = client.get(page).content.decode()
    assert all(each.identity in text for each in several)
    assert text.count(">Sent</span>") == 2 and text.count(">Failed</span>") == 1
    assert "no such number 0772123456" in text
    masked = operator().get(page).content.decode()
    assert not any(each.identity in masked for each in several) and "0772123456" not in masked


def test_the_recipients_of_a_page_are_chosen_before_others_are_joined(broadcast):
    # else MariaDB joins and sorts all recipients of the broadcast
    with CaptureQueriesContext(connection) as queries:
        found = listing.recipients(broadcast, rows=20)
    assert [row.connection_id for row in found] == sorted(row.connection_id for row in found)
    chosen, *_ = [each["sql"] for each in queries.captured_queries]
    assert "JOIN" not in chosen and "LIMIT 20" in chosen


def test_the_recipients_of_a_broadcast_are_shown_page_by_page(operator, broadcast, monkeypatch):
    monkeypatch.setattr("rapidsms_db_router.operations.views.broadcast.ROWS", 20)
    client, url = operator("see_personal"), reverse("router-broadcast", args=[broadcast.pk])
    first = client.get(url).content.decode()
    (more,) = re.findall(r'href="(\?after=[0-9]+)"', first)
    second = client.get(url + more).content.decode()
    assert "?after=" not in second
    numbers = [re.findall(r">([+]2547[0-9]+)</a>", text) for text in (first, second)]
    assert [len(each) for each in numbers] == [20, 10]
    assert len({*numbers[0], *numbers[1]}) == 30


def test_an_inbound_message_has_no_page_of_recipients(operator, person):
    message = receive("ping", person).dbm
    page = reverse("router-broadcast", args=[message.pk])
    assert operator().get(page).status_code == 404


def test_the_end_is_told_by_the_rate_until_there_is_a_pace(broadcast, person):
    assert progress.progress(broadcast).end is None
    BackendState.objects.create(backend=person.backend, rate="2/s")
    found = progress.progress(broadcast)
    assert found.is_timed
    assert found.end is not None
    assert 14 < (found.end - now()).total_seconds() <= 15
    Transmission.objects.filter(message=broadcast, pk__lt=broadcast.transmissions.last().pk).update(
        status="S", sent=now()
    )
    found = progress.progress(broadcast)
    assert not found.is_timed
    assert found.end is not None
    assert 1 < (found.end - now()).total_seconds() < 3
    operators.pause(person.backend, by="Amina")
    Transmission.objects.update(status="Q", sent=None)
    assert progress.progress(broadcast).end is None
    (each,) = progress.progress(broadcast).remaining
    assert (each.people, each.state[:15]) == (30, "paused by Amina")
