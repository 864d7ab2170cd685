"""What the pages show, and to whom."""

from __future__ import annotations

import csv
import datetime
import io
import json

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rapidsms.models import Contact

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState, RecoverySchedule, Transmission
from rapidsms_db_router.operations import listing
from rapidsms_db_router.operations.tallies import filling

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)
PAGES = (
    "router-operations",
    "router-messages",
    "router-broadcasts",
    "router-failures",
    "router-actions",
)


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_asked_to_log_in(page):
    answer = Client().get(reverse(page))
    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")


@pytest.mark.parametrize("page", PAGES)
def test_a_user_without_permission_is_refused(page, django_user_model):
    client = Client()
    client.force_login(django_user_model.objects.create_user("nobody"))
    assert client.get(reverse(page)).status_code == 403


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_installation_has_pages(page, operator):
    assert operator().get(reverse(page)).status_code == 200


def test_an_outage_is_told_first(operator, person, stored):
    stored(person)
    BackendState.objects.create(
        backend=person.backend,
        failures=3,
        open_until=now() + HOUR,
        opened_at=now(),
        reason="HTTPError: HTTP 403",
    )
    text = operator().get(reverse("router-operations")).content.decode()
    assert "phones is out of order since" in text
    assert "HTTPError: HTTP 403" in text
    assert "No incident." not in text


def test_workers_that_are_gone_are_told(operator):
    RecoverySchedule.objects.create(pk=1, next_look=now() - HOUR)
    text = operator().get(reverse("router-operations")).content.decode()
    assert "No worker has been seen" in text


def test_retrying_and_failed_are_told_apart(operator, person, stored):
    stored(person, status=Status.ERRORED, next_try=now() + HOUR, error="busy")
    stored(person, status=Status.ERRORED, error="no such number")
    text = operator().get(reverse("router-messages")).content.decode()
    assert ">Retrying<" in text
    assert ">Failed<" in text
    only = operator().get(reverse("router-messages"), {"state": "failed"}).content.decode()
    assert ">Retrying</span>" not in only
    assert ">Failed</span>" in only


def test_a_viewer_sees_neither_numbers_nor_texts(operator, person, stored):
    stored(person, text="I have malaria", status=Status.ERRORED, error=f"no: {person.identity}")
    for page in (
        reverse("router-messages"),
        reverse("router-messages") + "?search=malaria",
        reverse("router-conversation", args=[person.pk]),
    ):
        text = operator().get(page).content.decode()
        assert "malaria" not in text.replace("search=malaria", "")
        assert person.identity not in text
    text = operator("see_personal").get(reverse("router-messages")).content.decode()
    assert "I have malaria" in text
    assert person.identity in text


@pytest.mark.parametrize(
    "typed", ["+254700000000", "254700000000", "0700000000", "+254 700 000 000", "00000000"]
)
def test_a_number_is_found_as_people_type_it(operator, people, stored, typed):
    for connection in people(3):
        stored(connection, text=f"to {connection.identity}")
    answer = operator("see_personal").get(reverse("router-messages"), {"search": typed})
    assert "to +254700000000" in answer.content.decode()


@pytest.mark.parametrize("typed", ["Amina", "a text", "gateway-7"])
def test_a_name_a_text_and_an_id_are_found(operator, people, stored, typed):
    person, other = people(2)
    person.contact = Contact.objects.create(name="Amina Otieno")
    person.save()
    stored(person, text="a text of hers", external_id="gateway-7")
    stored(other, text="of another")
    text = (
        operator("see_personal").get(reverse("router-messages"), {"search": typed}).content.decode()
    )
    assert "a text of hers" in text
    assert "of another" not in text


def test_pages_follow_each_other_without_gap_or_repetition(person, stored, monkeypatch):
    monkeypatch.setattr(listing, "WINDOW", 7)
    ids = [stored(person, status="SE"[number % 3 == 0]).pk for number in range(40)]
    wanted, before, seen = listing.Wanted(state="failed"), None, []
    while True:
        page = listing.page(wanted, before, rows=3)
        seen += [row.pk for row in page.rows]
        if page.before is None:
            break
        before = page.before
    assert seen == sorted((pk for number, pk in enumerate(ids) if number % 3 == 0), reverse=True)


def test_a_conversation_has_both_directions_and_an_answer(operator, person, stored, calls):
    stored(person, status=Status.RECEIVED, direction=Direction.INCOMING, text="ping?")
    page = reverse("router-conversation", args=[person.pk])
    viewer = operator("see_personal")
    assert "ping?" in viewer.get(page).content.decode()
    assert viewer.post(page, {"text": "pong"}).status_code == 403
    writer = operator("see_personal", "send")
    assert writer.post(page, {"text": "pong"}).status_code == 302
    assert "pong" in writer.get(page).content.decode()


def test_each_page_takes_a_bounded_number_of_queries(
    operator, people, stored, django_assert_max_num_queries
):
    for connection in people(20):
        stored(connection)
    filling.fill()
    client = operator("see_personal")
    person = people(1)[0]
    for page in (*map(reverse, PAGES), reverse("router-conversation", args=[person.pk])):
        with django_assert_max_num_queries(14):  # two of them are the session and its user
            client.get(page)


def test_health_is_told_without_logging_in():
    assert Client().get(reverse("router-live")).json() == {"status": "alive"}
    assert Client().get(reverse("router-ready")).json() == {"status": "ready"}


def test_an_export_has_what_the_list_shows(operator, person, stored):
    stored(person, text="=1+1", status=Status.ERRORED, error="=cmd()", next_try=now() + HOUR)
    stored(person, text='hello, "you"\nthere', status=Status.ERRORED, error="no")
    stored(person, text="sent")
    client = operator("export", "see_personal")
    page = reverse("router-export", args=["csv"])
    answer = client.get(page, {"state": "failed"})
    lines = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert [(line["text"], line["status"]) for line in lines] == [('hello, "you"\nthere', "Failed")]
    lines = list(csv.DictReader(io.StringIO(client.get(page).getvalue().decode())))
    assert len(lines) == 3
    assert lines[2]["text"] == "'=1+1"
    assert lines[2]["error"] == "'=cmd()"
    assert lines[2]["number"] == person.identity
    json_lines = client.get(reverse("router-export", args=["jsonl"]), {"search": "sent"})
    assert [json.loads(line)["text"] for line in json_lines.getvalue().splitlines()] == ["sent"]


def test_an_export_reads_nothing_of_a_gap_between_keys(operator, person, stored):
    for text in ("old", "new"):
        stored(person, text=text)
    newest = Transmission.objects.order_by("-pk")[0]
    Transmission.objects.filter(pk=newest.pk).update(id=newest.pk + 50_000_000)
    page = reverse("router-export", args=["csv"])
    client = operator("export", "see_personal")
    with CaptureQueriesContext(database) as queries:
        lines = list(csv.DictReader(io.StringIO(client.get(page).getvalue().decode())))
    assert [line["text"] for line in lines] == ["new", "old"]
    assert len(queries) < 20


def test_an_export_needs_its_permission_and_masks_what_the_reader_may_not_see(
    operator, person, stored
):
    stored(person, text="secret")
    page = reverse("router-export", args=["csv"])
    assert operator("see_personal").get(page).status_code == 403
    text = operator("export").get(page).getvalue().decode()
    assert "secret" not in text
    assert person.identity not in text
