"""The first page: is there an incident, and what is every backend doing."""

from __future__ import annotations

import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.operations import charts, figures, histograms
from rapidsms_db_router.operations.figures import HourFigures
from rapidsms_db_router.operations.incidents import incidents
from rapidsms_db_router.operations.models import Span
from rapidsms_db_router.operations.views.base import OperatorsPage

#: What the charts show, from the bottom of a column up.
SERIES = ("delivered", "sent", "waiting", "failed")
PERCENTILES = (0.5, 0.95, 0.99)
DAY = datetime.timedelta(days=1)
DAYS = 14


class OperationsView(OperatorsPage):
    """Backends, incidents, charts and latencies."""

    template_name = "rapidsms_db_router/operations/operations.html"
    menu = "operations"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found, moment = figures.backends(), now()
        all_hours = figures.hours(moment - DAYS * DAY)
        hours = [each for each in all_hours if each.start > moment - DAY]
        days = _by_day(all_hours)
        return super().get_context_data(
            incidents=incidents(found),
            backends=found,
            hours=hours,
            hour_chart=_chart(hours, "H:i"),
            days=days,
            day_chart=_chart(days, "j M"),
            latencies=_latencies(moment),
            tallied_at=figures.tallied_at(),
            moment=moment,
            **kwargs,
        )


def _chart(found: list[HourFigures], pattern: str) -> charts.Chart:
    labels = [date_format(timezone.localtime(each.start), pattern) for each in found]
    words = {
        "delivered": _("delivered"),
        "sent": _("sent"),
        "waiting": _("waiting"),
        "failed": _("failed"),
    }
    return charts.columns(
        labels,
        {name: [each.flow.counts[name] for each in found] for name in SERIES},
        lambda place, name, number: f"{labels[place]}: {number} {words[name]}",
    )


def _by_day(hours: list[HourFigures]) -> list[HourFigures]:
    """Add up the hours of each day, in the user's time zone."""
    days: dict[datetime.date, HourFigures] = {}
    for hour in hours:
        local = timezone.localtime(hour.start)
        day = days.setdefault(local.date(), HourFigures(hour.start))
        day.flow.counts.update(hour.flow.counts)
        day.flow.segments.update(hour.flow.segments)
        day.received += hour.received
    return list(days.values())


def _latencies(moment: datetime.datetime) -> list[dict[str, Any]]:
    """Return percentiles of this hour with the one before, and of the last day."""
    day, hour = figures.latencies(moment - DAY, moment - DAY / 24)
    return [{"span": span, "hour": _told(hour[span]), "day": _told(day[span])} for span in Span]


def _told(histogram: list[int]) -> list[float | None]:
    return [histograms.percentile(histogram, share) for share in PERCENTILES]
