"""What failed, by backend and reason; and doing it again."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from rapidsms_db_router.bulk_actions import permission_for
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.operations import figures, groups
from rapidsms_db_router.operations.groups import Group
from rapidsms_db_router.operations.tallies.hours import hour_of
from rapidsms_db_router.operations.views.base import OperatorsPage

#: Periods of the page, in hours.
PERIODS = {"1": 1, "24": 24, "168": 168, "720": 720}
USUAL = "24"


class FailuresView(OperatorsPage):
    """What failed in a period, grouped by backend and reason."""

    template_name = "rapidsms_db_router/operations/failures.html"
    menu = "failures"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        asked = self.request.GET.get("hours", USUAL)
        hours = asked if asked in PERIODS else USUAL
        moment = now()
        since = hour_of(moment - datetime.timedelta(hours=PERIODS[hours]))
        recent = {
            (each.backend, each.direction, each.reason): each.transmissions
            for each in figures.failures(moment - datetime.timedelta(hours=1))
        }
        found = [
            {
                "each": each,
                "recent": recent.get((each.backend, each.direction, each.reason), 0),
                "inbound": each.direction == Direction.INCOMING,
                "allowed": self.request.user.has_perm(permission_for(_group(each, since).kind)),
            }
            for each in figures.failures(since)
        ]
        return super().get_context_data(
            groups=found, since=since, hours=hours, periods=list(PERIODS), **kwargs
        )

    def post(self, request: HttpRequest) -> HttpResponse:
        """Choose the rows of a group, and show what would be done."""
        given = request.POST
        since = _date(given.get("since"))
        direction = given.get("direction")
        if since is None or direction not in Direction.values:
            return HttpResponse(_("This group is not known."), status=400)
        group = Group(given.get("backend", ""), direction, given.get("reason", ""), since)
        if not request.user.has_perm(permission_for(group.kind)):
            return self.handle_no_permission()
        action = groups.prepare(group, request.user.get_username())
        if action is None or not action.total:
            messages.warning(request, _("Nothing of this group is failed any more."))
            return redirect("router-failures")
        return redirect("router-action", action.pk)


def _group(each: figures.Failures, since: datetime.datetime) -> Group:
    return Group(each.backend, each.direction, each.reason, since)


def _date(said: str | None) -> datetime.datetime | None:
    try:
        return parse_datetime(said or "")
    except ValueError:
        return None
