"""The page of backends."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from rapidsms.models import Backend

from rapidsms_db_router.admin.base import ReadOnlyAdmin
from rapidsms_db_router.admin.pages import address, linked
from rapidsms_db_router.limits import operators
from rapidsms_db_router.limits.slots import InFlight, in_flight
from rapidsms_db_router.models import Batch, Gateway
from rapidsms_db_router.personal import VIEW
from rapidsms_db_router.publishing import doorbells


class WithCalls(ChangeList):
    """Backends with the calls that are made now."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the calls of all backends at once."""
        super().get_results(request)
        found = in_flight()
        for backend in self.result_list:
            backend.calls_now = found.get(backend.pk, InFlight())

    def url_for_result(self, result: Any) -> str:
        """Link each backend to RapidSMS's page, where it is changed and deleted."""
        return reverse("admin:rapidsms_backend_change", args=[result.pk])


@admin.register(Gateway)
class GatewayAdmin(ReadOnlyAdmin):
    """Backends: whether they are called, and what waits for them."""

    list_display = ("name", "state", "failures", "waiting", "in_flight", "abandoned")
    linking: ClassVar[dict[str, tuple[str, str]]] = {"state": (VIEW, "unlinked_state")}
    list_select_related = ("router_state",)
    ordering = ("name",)
    sortable_by = ()
    actions = ("pause", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Gateway]:
        """Add how many batches wait."""
        batches = Batch.objects.filter(backend=OuterRef("pk"), claim_token=None).order_by()
        waiting = batches.values("backend").annotate(number=Count("pk"))
        found: QuerySet[Gateway] = super().get_queryset(request)
        found = found.annotate(waiting_batches=Subquery(waiting.values("number")))
        return found

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        """Link the names for those who may see where that leads."""
        theirs = self.admin_site._registry.get(Backend)
        return ("name",) if theirs and theirs.has_view_permission(request) else None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Add the calls that are made now."""
        return WithCalls

    @admin.display(description="state")
    def state(self, backend: Gateway) -> str:
        """Whether it works, is paused, or is out of order; a link to its page for operators."""
        return linked(self.unlinked_state(backend), address("router-backend", backend.pk))

    @admin.display(description="state")
    def unlinked_state(self, backend: Gateway) -> str:
        """Whether it works, is paused, or is out of order."""
        return operators.describe(backend)

    @admin.display(description="failed calls in a row")
    def failures(self, backend: Gateway) -> int:
        """How many calls failed one after the other."""
        state = operators.state_of(backend)
        return 0 if state is None else state.failures

    @admin.display(description="batches that wait")
    def waiting(self, backend: Any) -> int:
        """How many are still to be sent."""
        return backend.waiting_batches or 0

    @admin.display(description="calls in flight")
    def in_flight(self, backend: Any) -> int:
        """How many calls of it all workers make now."""
        return int(backend.calls_now.calls)

    @admin.display(description="threads left behind")
    def abandoned(self, backend: Any) -> int:
        """How many calls are over by their deadline, and have not returned yet."""
        return int(backend.calls_now.abandoned)

    @admin.action(permissions=["pause"], description="Pause: nothing is sent to them")
    def pause(self, request: HttpRequest, queryset: QuerySet[Gateway]) -> None:
        """Have nothing sent to the selected backends."""
        backends = list(queryset)
        for backend in backends:
            operators.pause(backend, by=request.user.get_username())
        self.message_user(request, f"Paused: {', '.join(map(str, backends))}.")

    @admin.action(permissions=["pause"], description="Resume: they are called again, at once")
    def resume(self, request: HttpRequest, queryset: QuerySet[Gateway]) -> HttpResponse | None:
        """Say what waits for the selected backends; once that is confirmed, have them called."""
        backends = list(queryset)
        if "confirmed" not in request.POST:
            return TemplateResponse(
                request,
                "admin/rapidsms_db_router/confirm_resume.html",
                {
                    **self.admin_site.each_context(request),
                    "title": _("Are you sure?"),
                    "opts": self.opts,
                    "backends": backends,
                },
            )
        for backend in backends:
            operators.resume(backend, by=request.user.get_username())
            doorbells.publish_outbound(backend, message_id=0)
        self.message_user(request, f"Called again: {', '.join(map(str, backends))}.")
        return None
