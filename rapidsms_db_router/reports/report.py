"""What a delivery report says, as every column and every comparison can take it."""

from __future__ import annotations

import datetime
import logging
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.text import as_id, clean_text, narrow_text
from rapidsms_db_router.models.transmission import LONGEST_EXTERNAL_ID

logger = logging.getLogger(__name__)

#: No primary key has more digits.
LONGEST_KEY = 18
#: The widths of RapidSMS's columns.
LONGEST_IDENTITY = 100
LONGEST_BACKEND_NAME = 20
#: More of a gateway's words helps nobody.
LONGEST_REASON = 1000
#: A report's date may be this much before the message was stored, or in the future: clocks differ.
SLACK = datetime.timedelta(days=1)


class Report(NamedTuple):
    """One delivery report; what it does not say is empty."""

    outcome: Outcome
    message_id: int | None
    identity: str
    external_id: str
    backend_name: str
    date: datetime.datetime | None
    reason: str


def read(
    outcome: Any,
    *,
    message_id: Any = None,
    identity: Any = None,
    external_id: Any = None,
    backend_name: Any = None,
    date: Any = None,
    reason: Any = None,
) -> Report:
    """Return a report, whatever its values are.

    What no column holds is replaced or cut, which is logged; what is no id is left out.

    :raises ValueError: if the outcome is unknown.
    """
    found = Outcome(outcome)
    cleaned: list[str] = []

    def text(name: str, value: Any, longest: int) -> str:
        try:
            given = "" if value is None else str(value)
            said = narrow_text(clean_text("" if value is None else value))[:longest]
        except Exception:  # a class whose str() raises, or a number of too many digits
            given, said = "unreadable", ""
        if said != given:
            cleaned.append(name)
        return said

    key = text("message_id", message_id, LONGEST_EXTERNAL_ID).strip()
    is_key = key.isascii() and key.isdigit() and len(key) <= LONGEST_KEY
    report = Report(
        outcome=found,
        message_id=int(key) if is_key else None,
        identity=text("identity", identity, LONGEST_IDENTITY).strip(),
        external_id=as_id(text("external_id", external_id, LONGEST_EXTERNAL_ID)).strip(),
        # longer than any: what was cut is no backend's name
        backend_name=text("backend_name", backend_name, LONGEST_BACKEND_NAME + 1),
        date=_date(date),
        reason=text("reason", reason, LONGEST_REASON),
    )
    if date is not None and report.date is None:
        cleaned.append("date")
    if cleaned:
        logger.warning("report_cleaned arguments=%s", ",".join(cleaned))
    return report


def _date(said: Any) -> datetime.datetime | None:
    """Return a date, also of a text in ISO 8601."""
    if isinstance(said, str):
        try:
            said = parse_datetime(said)
        except ValueError:  # as of the 30th of February
            return None
    return said if isinstance(said, datetime.datetime) else None


def plausible(date: datetime.datetime | None, since: datetime.datetime) -> datetime.datetime | None:
    """Return a report's date as the database holds it; ``None`` if it cannot be true.

    :param since: when the message was stored.
    """
    if date is None:
        return None
    try:
        if settings.USE_TZ:
            aware = date if timezone.is_aware(date) else timezone.make_aware(date)
            # from strangers: in whatever zone
            said = aware.astimezone(datetime.timezone.utc)
        elif timezone.is_aware(date):
            said = timezone.make_naive(date, timezone.get_default_timezone())
        else:
            said = date
        return said if since - SLACK <= said <= now() + SLACK else None
    except Exception:  # no such date in the other zone, or a zone that is none
        return None
