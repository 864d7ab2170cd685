"""The page of bulk actions: how far they have come, and how to stop them."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.http import HttpRequest

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.admin.base import ReadOnlyAdmin
from rapidsms_db_router.models import BulkAction


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    """What was asked for, by whom, and how far it has come."""

    list_display = ("id", "kind", "state", "progress", "changed", "requested_by", "created")
    list_display_links = None
    list_filter = ("kind", "state")
    actions = ("stop",)

    @admin.display(description="progress")
    def progress(self, action: BulkAction) -> str:
        """How many of its rows are done."""
        return f"{intcomma(action.handled)} of {intcomma(action.total)}"

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Whether the user may ask for a bulk action of any kind."""
        return bool(_kinds_of(request))

    @admin.action(permissions=["stop"], description="Stop: do no more of them")
    def stop(self, request: HttpRequest, queryset: QuerySet[BulkAction]) -> None:
        """Stop those of the selected that the user may ask for."""
        by = request.user.get_username()
        mine = queryset.filter(kind__in=_kinds_of(request))
        stopped = sum(bulk_actions.stop(action, by=by) for action in mine)
        level = messages.SUCCESS if stopped else messages.WARNING
        self.message_user(request, f"{stopped} bulk actions were stopped.", level)


def _kinds_of(request: HttpRequest) -> list[str]:
    """Return the kinds that the user may ask for."""
    may = request.user.has_perm
    return [kind for kind in BulkAction.Kind if may(bulk_actions.permission_for(kind))]
