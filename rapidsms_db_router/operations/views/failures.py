"""What failed, by backend and reason; and doing it again."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BulkAction, BulkActionChunk, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.operations import figures, groups, people
from rapidsms_db_router.operations.groups import Group
from rapidsms_db_router.operations.tallies.hours import hour_of
from rapidsms_db_router.operations.views.base import OperatorsPage

#: By kind of bulk action the permission that it needs.
NEEDED = {
    BulkAction.Kind.RESEND: "rapidsms_db_router.resend_message",
    BulkAction.Kind.REPROCESS: "rapidsms_db_router.reprocess_message",
    BulkAction.Kind.CANCEL: "rapidsms_db_router.cancel_message",
}
#: Periods of the page, in hours.
PERIODS = {"1": 1, "24": 24, "168": 168, "720": 720}
USUAL = "24"
#: People that are shown before an action begins.
SHOWN = 3


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
                "allowed": self.request.user.has_perm(NEEDED[_group(each, since).kind]),
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
        if not request.user.has_perm(NEEDED[group.kind]):
            return self.handle_no_permission()
        action = groups.prepare(group, request.user.get_username())
        if action is None or not action.total:
            messages.warning(request, _("Nothing of this group is failed any more."))
            return redirect("router-failures")
        return redirect("router-action", action.pk)


class ActionView(OperatorsPage):
    """One bulk action: what it will do, how far it has come, and ways to begin and to stop it."""

    template_name = "rapidsms_db_router/operations/action.html"
    menu = "failures"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        action = get_object_or_404(BulkAction, pk=kwargs["pk"])
        done = action.state != BulkAction.State.PREPARED
        return super().get_context_data(
            action=action,
            said=bulk_actions.describe(action.kind, action.changed if done else action.total),
            share=100 * action.handled / action.total if action.total else 100,
            first=_first(action),
            may_see=people.may_see(self.request.user),
            allowed=self.request.user.has_perm(NEEDED[BulkAction.Kind(action.kind)]),
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Begin it, or stop it."""
        action = get_object_or_404(BulkAction, pk=pk)
        if not request.user.has_perm(NEEDED[BulkAction.Kind(action.kind)]):
            return self.handle_no_permission()
        if request.POST.get("do") == "start":
            bulk_actions.start(action)
        elif request.POST.get("do") == "stop":
            bulk_actions.stop(action)
        return redirect(request.path)


class ActionsView(OperatorsPage):
    """Who did what to how many, the newest first."""

    template_name = "rapidsms_db_router/operations/actions.html"
    menu = "failures"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        begun = BulkAction.objects.exclude(state=BulkAction.State.PREPARED)
        return super().get_context_data(actions=begun.order_by("-pk")[:100], **kwargs)


def _group(each: figures.Failures, since: datetime.datetime) -> Group:
    return Group(each.backend, each.direction, each.reason, since)


def _first(action: BulkAction) -> list[str]:
    """Return the numbers of the first people of an action that has not begun."""
    if action.state != BulkAction.State.PREPARED:
        return []
    chunk = BulkActionChunk.objects.filter(action=action).order_by("pk").first()
    if chunk is None:
        return []
    field = "pk" if action.kind == BulkAction.Kind.RESEND else "message"
    rows = Transmission.objects.filter(among(chunk.ids[:SHOWN], field)).order_by("pk")
    return list(rows.values_list("connection__identity", flat=True)[:SHOWN])


def _date(said: str | None) -> datetime.datetime | None:
    try:
        return parse_datetime(said or "")
    except ValueError:
        return None
