"""What the pages of the admin share: lists whose cost does not grow with their table."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import django
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from rapidsms.models import Backend

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound import again, outbox

SHORT = 60


class BoundedPaginator(Paginator):
    """Counts no further than it would let anyone page."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, or :attr:`most`."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[: self.most].count()


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows, at a cost that does not grow with the table."""

    paginator = BoundedPaginator
    show_full_result_count = False
    ordering = ("-id",)
    sortable_by: ClassVar[tuple[str, ...]] = ("id",)  # no other column has an index to sort by
    if django.VERSION >= (5, 0):
        # counts beside the filters would each be one of the whole table
        show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Messages come through the router."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was said is not changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor forgotten."""
        return False

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Whether the user may send errored transmissions again."""
        return request.user.has_perm("rapidsms_db_router.resend_message")

    def has_reprocess_permission(self, request: HttpRequest) -> bool:
        """Whether the user may process an errored inbound message again."""
        return request.user.has_perm("rapidsms_db_router.reprocess_message")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel what is still to be sent of a message."""
        return request.user.has_perm("rapidsms_db_router.cancel_message")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Whether the user may pause and resume a backend."""
        return request.user.has_perm("rapidsms_db_router.pause_backend")

    @admin.display(description="error")
    def short_error(self, row: Message | Transmission) -> str:
        """The first line of the error."""
        return Truncator(row.error.partition("\n")[0]).chars(SHORT)

    def resend_transmissions(
        self, request: HttpRequest, transmissions: QuerySet[Transmission]
    ) -> None:
        """Send what is errored among ``transmissions`` again, and say how many were."""
        count, ids = again.resend(transmissions)
        for message in Message.objects.filter(pk__in=ids):
            outbox.send(message)
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, f"{count} errored transmissions will be sent again.", level)


def _backends() -> list[tuple[str, str]]:
    """Return key and name of every backend, also where Django would read them from a replica."""
    backends = Backend.objects.using(alias()).order_by("name")
    return [(str(pk), name) for pk, name in backends.values_list()]


class ConnectionBackendFilter(admin.RelatedFieldListFilter):
    """Transmissions from or to one backend."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        """List the backends."""
        return _backends()


class BackendFilter(admin.SimpleListFilter):
    """Messages from or to one backend."""

    title = "backend"
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the backends."""
        return _backends()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Select messages with a transmission of the backend."""
        if not (self.value() or "").isdigit():
            return queryset
        mine = Transmission.objects.filter(message=OuterRef("pk"), connection__backend=self.value())
        return queryset.filter(Exists(mine))


def link(message: Message) -> SafeString:
    page = reverse("admin:rapidsms_db_router_message_change", args=(message.pk,))
    text = Truncator(message.text).chars(SHORT // 2) or "(empty)"
    return format_html('<a href="{}">{}: {}</a>', page, message.pk, text)


def pretty(value: Any) -> SafeString:
    said = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', said)
