"""Bulk actions: what they will do, how far they have come, and who asked for them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from rapidsms_db_router import bulk_actions, personal
from rapidsms_db_router.models import BulkAction
from rapidsms_db_router.models.transmission import IDENTITY
from rapidsms_db_router.operations import audit
from rapidsms_db_router.operations.listing import ROWS
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.operations.views.messages import primary_key

State = BulkAction.State
#: People that are shown before an action begins.
SHOWN = 3


class ActionView(OperatorsPage):
    """One bulk action: what it will do, how far it has come, and ways to begin and to stop it."""

    template_name = "rapidsms_db_router/operations/action.html"
    menu = "actions"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        action = get_object_or_404(BulkAction, pk=kwargs["pk"])
        done = action.state != State.PREPARED
        count = action.changed if done else action.total
        return super().get_context_data(
            action=action,
            said=bulk_actions.describe(action.kind, count, done=done),
            broadcast=primary_key(self.request.GET.get("broadcast")),
            share=100 * action.handled / action.total if action.total else 100,
            first=_first(action),
            may_see=personal.may_see(self.request.user),
            allowed=self.request.user.has_perm(bulk_actions.permission_for(action.kind)),
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Begin it, or stop it."""
        action = get_object_or_404(BulkAction, pk=pk)
        if not request.user.has_perm(bulk_actions.permission_for(action.kind)):
            return self.handle_no_permission()
        if request.POST.get("do") == "start":
            bulk_actions.start(action, by=request.user.get_username())
        elif request.POST.get("do") == "stop":
            bulk_actions.stop(action, by=request.user.get_username())
        return redirect(request.get_full_path())


class ActionsView(OperatorsPage):
    """What people have done, the newest first."""

    template_name = "rapidsms_db_router/operations/actions.html"
    menu = "actions"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = audit.entries(primary_key(self.request.GET.get("before")), ROWS + 1)
        return super().get_context_data(
            history=found[:ROWS],
            before=found[ROWS - 1].pk if len(found) > ROWS else None,
            may_see=personal.may_see(self.request.user),
            **kwargs,
        )


def _first(action: BulkAction) -> list[str]:
    """Return the numbers of the first people of an action that has not begun."""
    if action.state != State.PREPARED:
        return []
    rows = bulk_actions.next_transmissions(action, SHOWN).order_by("pk")
    return list(rows.values_list(IDENTITY, flat=True)[:SHOWN])
