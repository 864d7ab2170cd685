"""Whatever a report says, nothing raises but for its outcome, and nothing unsent is delivered."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from rapidsms.router import lookup_connections

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.models import EarlyReport, Message, Part, Transmission
from rapidsms_db_router.reports import follow_early, record, record_all
from rapidsms_db_router.tasks import record_delivery_reports

pytestmark = pytest.mark.django_db

NUMBERS = ["+256772000001", "0772000002", "256 772 000 003", "alice", "MTN"]
IDS = ["7f3a9c21", "1", "part 1", "part 2"]


class Unspeakable:
    """A stranger's class."""

    def __str__(self) -> str:
        raise RuntimeError


TEXTS = st.text() | st.text(st.characters(categories=["Cs", "Cc", "So", "Nd"])) | st.binary()
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([10**5000, "9" * 5000, "x" * 100_000, [], {}, Unspeakable()])
)
ZONES = st.none() | st.integers(-1439, 1439).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
DATES = st.datetimes(timezones=ZONES) | st.datetimes().map(str) | ODD
SPELLED = st.sampled_from(
    [*NUMBERS, "256772000001", "00256772000001", " 0772000001", "772000002", "72", "+"]
)
OUTCOMES = st.sampled_from(list(Outcome)) | st.sampled_from([each.value for each in Outcome])
REPORTS = st.fixed_dictionaries(
    {"outcome": OUTCOMES},
    optional={
        "message_id": st.integers(0, 2) | ODD,
        "identity": SPELLED | ODD,
        "external_id": st.sampled_from(IDS) | ODD,
        "backend_name": st.sampled_from(["phones", "other"]) | ODD,
        "date": DATES,
        "reason": ODD,
    },
)


@pytest.fixture
def messages(installed_backends: Any) -> list[Message]:
    """A message that was sent, one of several parts, and one that was not sent."""
    installed_backends["phones"]["ENGINE"] = "tests.fuzz.test_reports.NamingBackend"
    people = lookup_connections("phones", NUMBERS)
    messages = []
    for status, text in (("S", "news"), ("S", "x" * 200), ("Q", "later")):
        message = Message.objects.create(direction="O", status=status, text=text)
        messages.append(message)
        for person, external_id in zip(people, [*IDS[:2], "parts", None, None], strict=True):
            row = Transmission.objects.create(
                message=message,
                connection=person,
                status=status,
                attempts=int(status == "S"),
                external_id=external_id,
            )
            if external_id == "parts" and status == "S":
                Part.objects.replace({row.pk: IDS[2:]})
    return messages


class NamingBackend:
    """Returns ids."""

    def send(self) -> None:
        """Never called."""


@pytest.mark.parametrize("with_zones", [True, False])
@given(reports=st.lists(REPORTS, max_size=4))
def test_no_report_raises_or_delivers_what_was_not_sent(
    messages: list[Message], with_zones: bool, reports: list[dict[str, Any]]
) -> None:
    with override_settings(USE_TZ=with_zones):
        for report in reports:
            number = report.get("message_id")
            if type(number) is int and 0 <= number < len(messages):
                report["message_id"] = messages[number].pk
            assert record(**report) in (True, False)
            signals.delivery_report.send(sender=None, **report)
        _check(messages)
        rows = list(messages[0].transmissions.select_related("connection"))
        follow_early({"7f3a9c21": [row.pk for row in rows]}, rows[0].connection.backend_id)
        _check(messages)


@given(reports=st.lists(REPORTS, min_size=2, max_size=6))
def test_reports_together_do_what_they_do_one_by_one(
    messages: list[Message], reports: list[dict[str, Any]]
) -> None:
    found = []
    for together in (False, True):
        with transaction.atomic():
            if together:
                record_all(reports)
            else:
                for report in reports:
                    record(**report)
            rows = Transmission.objects.order_by("pk").values_list("status", "message__status")
            found.append([*rows, EarlyReport.objects.count()])
            transaction.set_rollback(True)
    assert found[0] == found[1]


@given(outcome=ODD)
def test_an_outcome_that_is_none_is_a_value_error(outcome: Any) -> None:
    with pytest.raises(ValueError):
        record(outcome, message_id=1)


@given(reports=st.lists(REPORTS | ODD | st.dictionaries(st.text(), ODD, max_size=3), max_size=4))
def test_in_a_list_each_report_stands_by_itself(
    messages: list[Message], reports: list[Any]
) -> None:
    last = Message.objects.create(direction="O", status="S", text="last")
    person = lookup_connections("phones", NUMBERS[:1])[0]
    Transmission.objects.create(message=last, connection=person, status="S", attempts=1)
    record_delivery_reports([*reports, {"outcome": "delivered", "message_id": last.pk}])
    assert last.transmissions.get().status == "D"
    _check(messages)


def _check(messages: list[Message]) -> None:
    """Read all that is stored: no row is unreadable, and what was not sent stays so."""
    assert set(messages[2].transmissions.values_list("status", flat=True)) == {"Q"}
    for model in (Message, Transmission, Part, EarlyReport):
        assert len(list(model.objects.all())) == model.objects.count()
