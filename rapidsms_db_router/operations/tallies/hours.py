"""Which hours there are: ranges of primary keys."""

from __future__ import annotations

import datetime
from typing import Any

from django.utils import timezone

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.operations.bisecting import key_since
from rapidsms_db_router.operations.models import Hour

#: Delivery reports are awaited for this long: until then an hour is tallied again.
OPEN_FOR = datetime.timedelta(hours=72)
HOUR = datetime.timedelta(hours=1)


def hour_of(moment: datetime.datetime) -> datetime.datetime:
    """Return the beginning of the hour that a moment belongs to; hours are those of UTC."""
    if timezone.is_aware(moment):
        moment = moment.astimezone(datetime.timezone.utc)
    return moment.replace(minute=0, second=0, microsecond=0)


def discover() -> None:
    """Make the hours that have transmissions and are not known yet, up to now."""
    newest = Hour.objects.order_by("-start").first()
    position = _beginning() if newest is None else newest.start + HOUR
    while position <= now() and (first := _first_since(position)) is not None:
        first_id, date = first
        hour, _ = Hour.objects.get_or_create(start=hour_of(date), defaults={"first_id": first_id})
        position = hour.start + HOUR


def _beginning() -> datetime.datetime:
    """Return where the first hour is looked for: where reports may come, or before the last row."""
    usual = hour_of(now() - OPEN_FOR)
    last = Transmission.objects.order_by("-pk").values_list("date", flat=True).first()
    return usual if last is None else min(usual, hour_of(last))


def discover_older() -> Hour | None:
    """Make the hour before the oldest that is known.

    :returns: the hour; ``None`` if there is none, or no transmission is older.
    """
    oldest = Hour.objects.order_by("start").first()
    if oldest is None:
        return None
    older = Transmission.objects.filter(pk__lt=oldest.first_id).order_by("-pk")
    date = older.values_list("date", flat=True).first()
    if date is None:
        return None
    # a date out of order: its hour is known already
    start = min(hour_of(date), oldest.start - HOUR)
    first = _first_since(start)
    if first is None or first[0] >= oldest.first_id:
        return None
    hour, _ = Hour.objects.get_or_create(start=start, defaults={"first_id": first[0]})
    if date != older.values_list("date", flat=True).first():
        hour.delete()  # rows are being imported: hours before the next one would be left out
        return None
    return hour


def at_import(*, last_id: int, **_: Any) -> None:
    """Forget the hours to which old rows have come over; a receiver of ``rows_imported``.

    They are found again, one by one. What the old router has stored after this app had begun counts
    in the last hour before. An hour of which rows were deleted stays as it was tallied.

    :param last_id: the primary key of the last of the old rows.
    """
    Hour.objects.filter(first_id__lte=last_id, pruned=False).delete()


def end_of(hour: Hour) -> int | None:
    """Return the primary key before which an hour ends; ``None``: it is the newest."""
    later = Hour.objects.filter(start__gt=hour.start).order_by("start")
    return later.values_list("first_id", flat=True).first()


def _first_since(moment: datetime.datetime) -> tuple[int, datetime.datetime] | None:
    rows = Transmission.objects.filter(pk__gte=key_since(moment, Transmission)).order_by("pk")
    return rows.values_list("pk", "date").first()
