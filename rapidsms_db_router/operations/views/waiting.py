"""What waits to be sent, and why; sending it now, at another date, or giving it up."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rapidsms_db_router import bulk_actions, personal
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, BulkAction, Transmission
from rapidsms_db_router.operations import listing, waiting
from rapidsms_db_router.operations.listing import ROWS
from rapidsms_db_router.operations.views.backend import backend_of
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.operations.views.messages import primary_key

Kind = BulkAction.Kind
#: By reason what can be done about it.
KINDS = {
    "scheduled": (Kind.SEND_NOW, Kind.MOVE, Kind.DISCARD),
    "retrying": (Kind.SEND_NOW, Kind.MOVE, Kind.DISCARD),
    "paused": (Kind.MOVE, Kind.DISCARD),
    "held": (Kind.MOVE, Kind.DISCARD),
}
#: By name the ages by which a part of a group can be chosen.
AGES = {
    "hour": datetime.timedelta(hours=1),
    "day": waiting.OLD,
    "week": datetime.timedelta(days=7),
}


class WaitingView(OperatorsPage):
    """What waits, by backend and reason."""

    template_name = "rapidsms_db_router/operations/waiting.html"
    menu = "waiting"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            groups=waiting.groups(), late=waiting.late(), moment=now(), **kwargs
        )


class ChoiceForm(forms.Form):
    """What an operator wants done to a group."""

    older = forms.ChoiceField(
        label=gettext_lazy("Which"),
        required=False,
        choices=[
            ("", gettext_lazy("All")),
            ("hour", gettext_lazy("Older than an hour")),
            ("day", gettext_lazy("Older than a day")),
            ("week", gettext_lazy("Older than a week")),
        ],
    )
    date = forms.DateTimeField(
        label=gettext_lazy("Date"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"), required=False, max_length=bulk_actions.LONGEST_REASON
    )
    do = forms.ChoiceField(choices=[(kind, kind) for kind in Kind], widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        """Refuse to move anything to no date, or to one that has passed."""
        cleaned: dict[str, Any] = super().clean() or {}
        date = cleaned.get("date")
        if cleaned.get("do") == Kind.MOVE and "date" not in self.errors:
            if date is None:
                self.add_error("date", _("To which date?"))
            elif date <= now():
                self.add_error("date", _("This date has passed."))
        return cleaned


class WaitingGroupView(OperatorsPage):
    """One group: what it has in it, and what can be done to it."""

    template_name = "rapidsms_db_router/operations/waiting_group.html"
    menu = "waiting"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        backend, why = backend_of(kwargs["backend"]), kwargs["why"]
        if why not in KINDS:
            raise Http404
        after = primary_key(self.request.GET.get("after")) or 0
        rows = waiting.batches(backend, why).filter(pk__gt=after).order_by("pk")
        some = list(rows.select_related("message")[: ROWS + 1])
        user = self.request.user
        older = self.request.GET.get("older")
        form = ChoiceForm(initial={"older": older if older in AGES else ""})
        return super().get_context_data(
            **{
                **kwargs,
                "backend": backend,
                "why": why,
                "group": next((each for each in waiting.groups(backend) if each.why == why), None),
                "rows": _told(some[:ROWS]),
                "after": some[ROWS - 1].pk if len(some) > ROWS else None,
                "kinds": [
                    kind.value
                    for kind in KINDS[why]
                    if user.has_perm(bulk_actions.permission_for(kind))
                ],
                "form": form,
                "moment": now(),
                "may_see": personal.may_see(user),
            }
        )

    def post(self, request: HttpRequest, backend: int, why: str) -> HttpResponse:
        """Choose what is to be done to which of them; show how many they are."""
        kinds = KINDS.get(why, ())
        form = ChoiceForm(request.POST)
        kind = request.POST.get("do")
        if kind not in kinds:
            return HttpResponse(_("This action is not known."), status=400)
        if not request.user.has_perm(bulk_actions.permission_for(kind)):
            return self.handle_no_permission()
        if not form.is_valid():
            context = self.get_context_data(backend=backend, why=why)
            return self.render_to_response({**context, "form": form})
        given = form.cleaned_data
        action = bulk_actions.prepare(
            kind,
            waiting.batches(backend_of(backend), why, AGES.get(given["older"])),
            request.user.get_username(),
            reason=given["reason"],
            send_at=given["date"] if kind == Kind.MOVE else None,
        )
        if not action.total:
            action.delete()
            messages.warning(request, _("Nothing of this waits any more."))
            return redirect(request.path)
        return redirect("router-action", action.pk)


def _told(some: list[Batch]) -> list[dict[str, Any]]:
    """Return what is shown of batches: their first person, and whether there are others."""
    first = {batch.pk: batch.transmission_ids[0] for batch in some if batch.transmission_ids}
    shown = listing.with_others(Transmission.objects.select_related("connection", "former"))
    rows = shown.in_bulk(list(first.values()))
    return [
        {
            "batch": batch,
            "people": len(batch.transmission_ids),
            "row": rows.get(first.get(batch.pk, 0)),
        }
        for batch in some
    ]
