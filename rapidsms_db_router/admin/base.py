"""What the pages of the admin share: lists whose cost does not grow with their table."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import django
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rapidsms.models import Backend

from rapidsms_db_router import bulk_actions, personal
from rapidsms_db_router.admin.pages import Linking, linked
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import BulkAction, Message, Transmission

SHORT = 60
#: Primary keys have no more digits; before Django 5.0 the database refuses others with an error.
MOST_DIGITS = 18


#: Columns that say something of a person.
GUESSABLE = {"text", "error", "fields", "context", "external_id", "dedup_key", "reason", "identity"}


def _is_of_person(lookup: str) -> bool:
    """Return whether a filter goes by way of another table to such a column."""
    allowed = ("message__id", "message__direction", "connection__backend")
    is_related = lookup.startswith(("message__", "connection", "transmissions", "in_response_to"))
    return is_related and not lookup.startswith(allowed)


class BoundedPaginator(Paginator):
    """Counts no further than it would let anyone page."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, or :attr:`most`."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[: self.most].count()


class ReadOnlyAdmin(Linking, admin.ModelAdmin):
    """Shows rows, at a cost that does not grow with the table."""

    paginator = BoundedPaginator
    show_full_result_count = False
    ordering = ("-id",)
    #: Columns with numbers and texts, and which are shown in their place to users who may not see
    #: those; empty: none is.
    personal: ClassVar[dict[str, str]] = {}
    sortable_by: ClassVar[tuple[str, ...]] = ("id",)  # no other column has an index to sort by
    if django.VERSION >= (5, 0):
        # counts beside the filters would each be one of the whole table
        show_facets = admin.ShowFacets.NEVER

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("rapidsms_db_router/admin.css",)}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the row of an address; ``None`` for a number that no column holds."""
        if object_id.lstrip("-").isdecimal() and len(object_id) > MOST_DIGITS:
            return None
        return super().get_object(request, object_id, from_field)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Messages come through the router."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was said is not changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor forgotten."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may see the list; or a row, of which numbers and texts are a part."""
        may_see = obj is None or not self.personal or personal.may_see(request.user)
        return may_see and super().has_view_permission(request, obj)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Put masked columns in place of those with numbers and texts."""
        columns = super().get_list_display(request)
        if not personal.may_see(request.user):
            shown = (self.personal.get(name, name) for name in map(str, columns))
            columns = tuple(name for name in shown if name)
        return self.followed(request, columns)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out links that the user may not follow."""
        found = super().get_fieldsets(request, obj)
        return [
            (title, {**options, "fields": self.followed(request, options["fields"])})
            for title, options in found
        ]

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        """Link no row that the user may not see."""
        if self.personal and not personal.may_see(request.user):
            return None
        return super().get_list_display_links(request, list_display)

    def get_search_fields(self, request: HttpRequest) -> Any:
        """Offer no search to whoever could guess a number or a text by it."""
        if self.personal and not personal.may_see(request.user):
            return ()
        return super().get_search_fields(request)

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

    @admin.display(description="status")
    def word(self, row: Message | Transmission) -> str:
        """The status in a word."""
        return _(row.state)

    @admin.display(description="status")
    def state_and_error(self, row: Message | Transmission) -> str:
        """The status, and the first line of the error."""
        error = Truncator(row.error.partition("\n")[0]).chars(SHORT)
        word = self.word(row)
        return format_html("{} <small>{}</small>", word, error) if error else word

    def ask_or_start(
        self, request: HttpRequest, kind: str, rows: QuerySet[Any]
    ) -> HttpResponse | None:
        """Show how many rows a bulk action will change; once that is confirmed, begin it."""
        user = request.user.get_username()[:150]
        if "confirmed" in request.POST:
            mine = BulkAction.objects.filter(kind=kind, requested_by=user).order_by("-pk")[:100]
            for action in mine:
                if str(action.pk) == request.POST["confirmed"]:
                    bulk_actions.start(action, by=user)
                    self._tell(request, action)
            return None
        action = bulk_actions.prepare(kind, rows, user)
        if not action.total:
            action.delete()
            said = bulk_actions.describe(kind, 0, done=True)
            self.message_user(request, said, messages.WARNING)
            return None
        return TemplateResponse(
            request,
            "admin/rapidsms_db_router/confirm_bulk_action.html",
            {
                **self.admin_site.each_context(request),
                "title": "Are you sure?",
                "opts": self.opts,
                "bulk_action": action,
                "said": bulk_actions.describe(kind, action.total),
            },
        )

    def _tell(self, request: HttpRequest, action: BulkAction) -> None:
        if action.state == BulkAction.State.RUNNING:
            may_look = request.user.has_perm("rapidsms_db_router.view_bulkaction")
            page = reverse("admin:rapidsms_db_router_bulkaction_changelist") if may_look else None
            text = "{} {} of them are done, and workers do the rest: {}."
            said = bulk_actions.describe(action.kind, action.total)
            done = intcomma(action.handled)
            self.message_user(
                request, format_html(text, said, done, linked("Bulk actions", page)), messages.INFO
            )
            return
        level = messages.SUCCESS if action.changed else messages.WARNING
        said = bulk_actions.describe(action.kind, action.changed, done=True)
        self.message_user(request, said, level)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a list; where rows are not counted to the end, say so.

        An address with what no column holds, a large number or NUL, gets the whole list. So does a
        filter by which a user who sees no numbers and texts could guess them.
        """
        if self.personal and not personal.may_see(request.user):
            first_parts = {name.partition("__")[0] for name in request.GET}
            if first_parts & GUESSABLE or any(map(_is_of_person, request.GET)):
                return HttpResponseRedirect(request.path)
        try:
            response = super().changelist_view(request, extra_context)
        except (DataError, OverflowError):  # of PostgreSQL, and of SQLite
            return HttpResponseRedirect(request.path)
        page = getattr(response, "context_data", None) or {}
        if getattr(page.get("cl"), "result_count", 0) >= self.paginator.most:
            page["module_name"] = f"or more {page['module_name']}"
            page["selection_note_all"] = f"All {intcomma(self.paginator.most)} or more selected"
        return response


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

    title = gettext_lazy("backend")
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the backends."""
        return _backends()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Select messages with a transmission of the backend."""
        try:
            backend = Backend.objects.using(alias()).get(pk=int(self.value() or ""))
        except (Backend.DoesNotExist, ValueError, OverflowError):
            return queryset
        mine = Transmission.objects.filter(message=OuterRef("pk"), connection__backend=backend)
        return queryset.filter(Exists(mine))


def link(message: Message) -> SafeString:
    page = reverse("admin:rapidsms_db_router_message_change", args=(message.pk,))
    text = Truncator(message.text).chars(SHORT // 2) or "(empty)"
    return format_html('<a href="{}">{}: {}</a>', page, message.pk, text)


def pretty(value: Any) -> SafeString:
    said = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', said)
