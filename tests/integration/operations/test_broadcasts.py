"""Broadcasts are found, followed, written once and cancelled."""

from __future__ import annotations

import datetime

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from rapidsms.models import Connection
from rapidsms.router import send

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState, Message, Transmission
from rapidsms_db_router.operations.broadcasts import progress, writing
from rapidsms_db_router.operations.models import Broadcast, Draft
from rapidsms_db_router.operations.tallies import filling

pytestmark = pytest.mark.django_db

MINUTE = datetime.timedelta(minutes=1)


def test_a_message_to_many_people_is_found(worker, people, broadcast):
    with worker.commit():
        send("to few", people(3))
    for _ in range(2):
        filling.fill()
    assert list(Broadcast.objects.values_list("message", "recipients")) == [(broadcast.pk, 30)]


def test_its_progress_is_told(broadcast):
    ids = list(broadcast.transmissions.values_list("pk", flat=True))

    def move(some, **columns):
        Transmission.objects.filter(pk__in=some).update(**columns)

    move(ids[:3], status=Status.DELIVERED, sent=now() - 5 * MINUTE)
    move(ids[3:9], status=Status.SENT, sent=now())
    move(ids[9:11], status=Status.ERRORED, next_try=now() + MINUTE)
    move(ids[11:15], status=Status.ERRORED, error="HTTPError: HTTP 400")
    found = progress.progress(broadcast)
    assert found.counts == {
        "delivered": 3,
        "sent": 6,
        "processing": 0,
        "retrying": 2,
        "waiting": 15,
        "failed": 4,
    }
    assert (found.total, found.left, found.rate) == (30, 17, 0.1)
    assert found.end is not None
    assert 165 < (found.end - now()).total_seconds() < 175
    assert progress.reasons(broadcast) == [progress.Reason("HTTPError: HTTP 400", 4)]


def test_a_draft_is_looked_at_and_sent_once(operator, worker, people, calls):
    people(25)
    backend = people(1)[0].backend
    writer = operator("broadcast", "see_personal")
    form = {"text": "Vaccination on Friday.\r\nCome!", "backend": backend.pk}
    shown = writer.post(reverse("router-write"), form, follow=True)
    text = shown.content.decode()
    assert "Send to 25 people" in text
    assert "1 (GSM)" in text
    assert calls == []
    draft = reverse("router-draft", args=[Draft.objects.get().pk])
    with worker.commit():
        assert writer.post(draft, {"do": "send"}).status_code == 302
        writer.post(draft, {"do": "send"})
    worker.work()
    message = Message.objects.get()
    assert message.text == "Vaccination on Friday.\nCome!"
    assert message.transmissions.filter(status="S").count() == 25
    assert message.broadcast.author == "user0"
    assert not Draft.objects.exists()


def test_a_file_of_numbers_names_the_people(operator, people):
    known = people(1)[0]
    lines = f"number,name\n{known.identity},A\n0772 000-001;B\n\n0772000001\n".encode()
    form = {
        "text": "x",
        "backend": known.backend_id,
        "numbers": SimpleUploadedFile("people.csv", lines),
    }
    writer = operator("broadcast")
    assert (
        "Send to 2 people"
        in writer.post(reverse("router-write"), form, follow=True).content.decode()
    )
    assert Draft.objects.get().numbers == [known.identity, "0772000001"]
    message = writing.send_draft(Draft.objects.get().pk, "amina")
    assert message is not None
    found = message.transmissions.values_list("connection__identity", flat=True)
    assert set(found) == {known.identity, "0772000001"}
    assert Connection.objects.count() == 2


def test_lines_without_a_number_are_named(operator, person):
    file = SimpleUploadedFile("people.csv", b"0772000001\nAmina\n12\n")
    form = {"text": "x", "backend": person.backend_id, "numbers": file}
    text = operator("broadcast").post(reverse("router-write"), form).content.decode()
    assert "2 lines have no number: 2, 3." in text
    assert not Draft.objects.exists()


def test_a_draft_says_how_long_it_takes(person):
    BackendState.objects.create(backend=person.backend, rate="2/s")
    draft = Draft.objects.create(
        text="x" * 200, backend=person.backend, numbers=["0772000001"] * 30, author="me"
    )
    found = writing.preview(draft)
    assert (found.people, found.segments, found.seconds) == (30, 2, 30.0)


def test_a_broadcast_that_would_be_over_is_refused(operator, person):
    form = {"text": "x", "backend": person.backend_id, "expires_at": "2020-01-01 08:00"}
    text = operator("broadcast").post(reverse("router-write"), form).content.decode()
    assert "This is over before anything may be sent." in text


@pytest.mark.parametrize("page", ["router-write", "router-broadcasts"])
def test_only_a_writer_writes(operator, page):
    expected = 403 if page == "router-write" else 200
    assert operator().get(reverse(page)).status_code == expected
    assert operator("broadcast").get(reverse(page)).status_code == 200
