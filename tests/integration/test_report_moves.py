"""What a report may say and what it moves: the table of the documentation, row by row."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path

import pytest
from django.test import override_settings

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound.again import resend
from rapidsms_db_router.reports import record
from tests.integration.conftest import statuses
from tests.service.backends import RecordingBackend

pytestmark = pytest.mark.django_db

LONG = "x" * 161
HOUR = timedelta(hours=1)
DOCS = Path(__file__).parents[2] / "docs" / "howto"
LETTERS = {"Sent.": "S", "Delivered.": "D", "Errored.": "E"}
#: The transmissions that the first column of the table names.
ROWS = {
    "Queued or Errored, and never handed to a gateway": [
        {"status": "Q"},
        {"status": "E", "error": "cancelled"},
        {"status": "Q", "text": LONG},
    ],
    "Processing": [{"status": "P", "attempts": 1}],
    "Sent": [{"status": "S", "attempts": 1}, {"status": "S", "attempts": 1, "text": LONG}],
    "Queued after a try, or Errored with a date of the next try": [
        {"status": "Q", "attempts": 1},
        {"status": "E", "attempts": 1, "next_try": HOUR},
    ],
    "Errored for good after a try": [
        {"status": "E", "attempts": 6},
        {"status": "E", "attempts": 6, "text": LONG},
    ],
    "Delivered": [{"status": "D", "attempts": 1}],
    "Delivered, with a text of several SMS": [{"status": "D", "attempts": 1, "text": LONG}],
    "Errored by a report, with a text of several SMS": [
        {"status": "S", "attempts": 1, "text": LONG, "reported": "failed"}
    ],
}


def table(name):
    with (DOCS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells():
    """Yield each transmission of the table with each outcome, and what it becomes."""
    for line in table("reported.csv"):
        for columns in ROWS[line["Transmission"]]:
            for heading, cell in line.items():
                for outcome in re.findall("``(.+?)``", heading):
                    name = f"{line['Transmission']}: {outcome}"
                    yield pytest.param(columns, outcome, LETTERS.get(cell), id=name)


def test_the_table_names_each_outcome_and_each_kind_of_row():
    assert [line["Transmission"] for line in table("reported.csv")] == list(ROWS)
    assert {each.values[1] for each in cells()} == set(Outcome)


@pytest.mark.parametrize(("columns", "outcome", "becomes"), list(cells()))
def test_what_a_report_moves(person, caplog, columns, outcome, becomes):
    columns = dict(columns)
    text, reported = columns.pop("text", "news"), columns.pop("reported", None)
    if "next_try" in columns:
        columns["next_try"] = now() + columns["next_try"]
    message = Message.objects.create(direction="O", text=text, status=columns["status"])
    row = Transmission.objects.create(message=message, connection=person, **columns)
    where = {"message_id": message.pk, "identity": person.identity}
    if reported:
        record(reported, **where)
        row.refresh_from_db()
    before = Transmission.objects.values().get()
    assert record(outcome, **where) == (becomes is not None)
    after = Transmission.objects.values().get()
    if becomes is None:
        assert {**after, "updated": None} == {**before, "updated": None}
    else:
        assert after["status"] == becomes
        assert after["next_try"] is None
        assert (after["delivered"] is not None) == (becomes == "D")
    assert ("report_unsent" in caplog.text) == (row.attempts == 0)


# Parts of long texts


def test_a_failed_part_without_an_id_of_its_own_errs_the_message_in_any_order(sent):
    for order in permutations(("accepted", "delivered", "rejected")):
        message, (row,) = sent(1, LONG)
        for outcome in order:
            record(outcome, message_id=message.pk, identity=row.connection.identity, reason="no")
        assert statuses(message) == "EE", order
        row.refresh_from_db()
        assert (row.error, row.delivered) == ("rejected: no", None)
        assert Message.objects.get(pk=message.pk).error == "1 of 1 transmissions errored"


def test_of_a_short_text_the_delivery_counts(sent):
    message, _ = sent(1, "x" * 160)
    for outcome in ("rejected", "delivered", "rejected"):
        record(outcome, message_id=message.pk)
    assert statuses(message) == "DD"


def test_a_long_text_that_is_sent_again_forgets_what_failed(sent, worker):
    message, _ = sent(1, LONG)
    record("failed", message_id=message.pk)
    with worker.commit():
        resend(Transmission.objects.all())
    assert not record("delivered", message_id=message.pk), "nothing of this try was handed over"
    Transmission.objects.update(status="S", attempts=1)
    assert record("delivered", message_id=message.pk)
    assert statuses(message)[1] == "D"


class Naming(RecordingBackend):
    """Returns three ids for each recipient."""

    before = ()

    def send(self, identities, **kwargs):
        """Return the ids; perhaps after having reported some."""
        super().send(identities=identities, **kwargs)
        for number, outcome in Naming.before:
            record(outcome, external_id=f"{identities[0]}/{number}", reason="early")
        return {identity: [f"{identity}/{n}" for n in range(3)] for identity in identities}


@pytest.fixture
def naming(installed_backends, monkeypatch):
    installed_backends["phones"]["ENGINE"] = Naming
    monkeypatch.setattr(Naming, "before", ())
    return Naming


#: What is reported of three parts, and what that makes of the whole.
PARTS = {
    tuple(said.strip("`") for said in line["Reported of the parts"].split(", ")): LETTERS[
        line["Transmission"]
    ]
    for line in table("parts.csv")
}
NOTHING_YET = "nothing yet"


@pytest.mark.parametrize("repeated", [1, 2])
@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("outcomes", PARTS)
def test_parts_with_ids_deliver_together_or_err_alone(naming, sent, outcomes, order, repeated):
    message, (row,) = sent()
    for place in order * repeated:
        if outcomes[place] != NOTHING_YET:
            record(outcomes[place], external_id=f"{row.connection.identity}/{place}")
    assert statuses(message) == 2 * PARTS[outcomes]


@pytest.mark.parametrize("outcomes", PARTS)
def test_parts_may_be_reported_before_their_ids_are_known(naming, sent, outcomes):
    naming.before = [
        (place, outcome) for place, outcome in enumerate(outcomes) if outcome != NOTHING_YET
    ]
    message, (row,) = sent()
    assert statuses(message) == 2 * PARTS[outcomes]
    identity = row.connection.identity
    assert row.external_id == f"{identity}/0 {identity}/1 {identity}/2"


def test_a_part_that_is_delivered_after_all_delivers_the_whole(naming, sent):
    message, (row,) = sent()
    for place, outcome in ((0, "delivered"), (1, "failed"), (2, "delivered"), (1, "delivered")):
        record(outcome, external_id=f"{row.connection.identity}/{place}")
    assert statuses(message) == "DD"


def test_a_part_is_found_by_the_message_too(naming, sent):
    message, rows = sent(2)
    identity = rows[1].connection.identity
    for place in range(3):
        where = {"message_id": message.pk, "identity": identity}
        record("delivered", external_id=f"{identity}/{place}", **where)
    assert statuses(message) == "SSD"


def test_what_is_sent_again_has_the_parts_of_its_last_call(naming, sent, worker):
    message, (row,) = sent()
    record("failed", external_id=f"{row.connection.identity}/1")
    with worker.commit():
        resend(Transmission.objects.all())
    worker.make_due()
    assert statuses(message)[1] == "S"
    for place in range(3):
        record("delivered", external_id=f"{row.connection.identity}/{place}")
    assert statuses(message) == "DD"


def test_a_failed_part_is_told_once(sent, django_capture_on_commit_callbacks):
    message, (row,) = sent(1, LONG)
    told = []

    def hear(signal, **kwargs):
        told.append((kwargs["transmission_ids"], kwargs["error"]))

    signals.transmissions_errored.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            for outcome in ("delivered", "failed", "failed", "delivered"):
                record(outcome, message_id=message.pk)
    finally:
        signals.transmissions_errored.disconnect(hear)
    assert told == [([row.pk], "failed")]


# Dates


def zone(hours):
    return timezone(timedelta(hours=hours))


DATES = [
    datetime(1, 1, 1),
    datetime(9999, 12, 31, 23, 59, 59),
    datetime(1, 1, 1, tzinfo=zone(14)),
    datetime(9999, 12, 31, 23, 59, tzinfo=zone(-12)),
    datetime(1970, 1, 1, tzinfo=timezone.utc),
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+14:00",
    "yesterday",
    7,
]


@pytest.mark.parametrize("with_zones", [True, False])
@pytest.mark.parametrize("date", DATES, ids=str)
def test_a_date_that_cannot_be_true_is_now(sent, date, with_zones):
    with override_settings(USE_TZ=with_zones):
        message, (row,) = sent()
        before = now()
        assert record("delivered", message_id=message.pk, date=date)
        row = Transmission.objects.get(pk=row.pk)
        assert before <= row.delivered <= now()
        assert (row.delivered.tzinfo is not None) == with_zones


@pytest.mark.parametrize("with_zones", [True, False])
@pytest.mark.parametrize("hours", [-23, 0, 23])
def test_a_date_may_be_a_day_off(sent, hours, with_zones):
    with override_settings(USE_TZ=with_zones):
        message, (row,) = sent()
        date = datetime.now(zone(5)).replace(microsecond=0) + timedelta(hours=hours)
        assert record("delivered", message_id=message.pk, date=date)
        row = Transmission.objects.get(pk=row.pk)
        found = row.delivered if with_zones else row.delivered.astimezone()
        assert found == date
