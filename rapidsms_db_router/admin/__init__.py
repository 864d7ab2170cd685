"""The admin: what became of every message; read-only, but for actions with own permissions."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import django
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from rapidsms.models import Backend

from rapidsms_db_router.choices import Status
from rapidsms_db_router.inbound import again as inbound_again
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Gateway, Message, Transmission
from rapidsms_db_router.models.message import backend_context
from rapidsms_db_router.outbound import again, discarding, outbox
from rapidsms_db_router.publishing import doorbells

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


class BackendFilter(admin.SimpleListFilter):
    """Messages from or to one backend."""

    title = "backend"
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the backends."""
        return [(str(pk), name) for pk, name in Backend.objects.order_by("name").values_list()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Select messages with a transmission of the backend."""
        if not (self.value() or "").isdigit():
            return queryset
        mine = Transmission.objects.filter(message=OuterRef("pk"), connection__backend=self.value())
        return queryset.filter(Exists(mine))


class NextTryFilter(admin.SimpleListFilter):
    """Errored transmissions, by whether a try follows."""

    title = "next try"
    parameter_name = "next_try"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices."""
        return [("yes", "Will be tried again"), ("no", "Given up")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Select by the date of the next try."""
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(status=Status.ERRORED, next_try__isnull=self.value() == "no")


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """Messages, with counts of their transmissions by status."""

    list_display = (
        "id",
        "date",
        "direction",
        "short_text",
        "status",
        "short_error",
        "sent",
    )
    list_display_links = ("id", "short_text")
    list_filter = ("direction", "status", BackendFilter, "date")
    search_fields = ("text",)
    search_help_text = "A number, an external id, or part of a text"
    actions = ("resend", "reprocess", "cancel")
    fieldsets = (
        (None, {"fields": ("direction", "status", "text", "transmission_counts", "error")}),
        (
            "Dates",
            {"fields": ("date", "not_before", "expires_at", "updated", "sent", "delivered")},
        ),
        (
            "Details",
            {
                "fields": (
                    "original",
                    "replies",
                    "external_id",
                    "pretty_fields",
                    "pretty_context",
                    "message_class",
                    "attempts",
                    "recover_at",
                )
            },
        ),
    )
    readonly_fields = (
        "transmission_counts",
        "original",
        "replies",
        "pretty_fields",
        "pretty_context",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for a number; if none is like it, for an external id; else for part of a text."""
        term = search_term.strip()
        if not term:
            return queryset, False
        of_number = Transmission.objects.filter(connection__identity=term).values("message")
        # One after the other, since no index serves an OR of these, and none at all serves the
        # last.
        for found in (queryset.filter(pk__in=of_number), queryset.filter(external_id=term)):
            if found.exists():
                return found, False
        return queryset.filter(text__icontains=term), False

    @admin.display(description="text", ordering=None)
    def short_text(self, message: Message) -> str:
        """The beginning of the text."""
        return Truncator(message.text).chars(SHORT) or "(empty)"

    @admin.display(description="transmissions")
    def transmission_counts(self, message: Message) -> SafeString | str:
        """How many transmissions have which status, each a link to them."""
        counts = message.transmissions.values_list("status").annotate(Count("pk")).order_by()
        page = reverse("admin:rapidsms_db_router_transmission_changelist")
        return (
            format_html_join(
                ", ",
                '<a href="{}?message__id__exact={}&amp;status__exact={}">{} {}</a>',
                (
                    (page, message.pk, status, intcomma(count), Status(status).label)
                    for status, count in sorted(counts)
                ),
            )
            or "none"
        )

    @admin.display(description="in response to")
    def original(self, message: Message) -> SafeString | str:
        """A link to the message this one answers."""
        if message.in_response_to is None:
            return "-"
        return _link(message.in_response_to)

    @admin.display(description="replies")
    def replies(self, message: Message) -> SafeString | str:
        """Links to the first replies to this message."""
        replies = message.responses.order_by("pk")[:20]
        return format_html_join(", ", "{}", ((_link(reply),) for reply in replies)) or "-"

    @admin.display(description="fields")
    def pretty_fields(self, message: Message) -> SafeString:
        """The message's fields, as JSON."""
        return _pretty(message.fields)

    @admin.display(description="backend context")
    def pretty_context(self, message: Message) -> SafeString:
        """What the backend gets beside the text, as JSON."""
        return _pretty(backend_context(message))

    @admin.action(permissions=["resend"], description="Send errored transmissions again")
    def resend(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Send the errored transmissions of the selected messages again."""
        chosen = queryset.order_by().values("pk")
        self.resend_transmissions(request, Transmission.objects.filter(message__in=chosen))

    @admin.action(permissions=["reprocess"], description="Process errored inbound messages again")
    def reprocess(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Run the apps on the errored inbound messages among the selected again."""
        ids = inbound_again.reprocess(queryset)
        for message in Message.objects.filter(pk__in=ids):
            doorbells.publish_inbound(message)
        level = messages.SUCCESS if ids else messages.WARNING
        self.message_user(
            request, f"{len(ids)} errored inbound messages will be processed again.", level
        )

    @admin.action(permissions=["cancel"], description="Cancel what is still to be sent")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Give up what is still to be sent of the selected outbound messages."""
        count = discarding.cancel(queryset)
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, f"{count} transmissions were cancelled.", level)


@admin.register(Transmission)
class TransmissionAdmin(ReadOnlyAdmin):
    """Transmissions, with the error and the next try of failed ones."""

    list_display = (
        "id",
        "connection",
        "status",
        "short_error",
        "attempts",
        "next_try",
        "sent",
        "message_link",
    )
    list_select_related = ("message", "connection__backend")
    list_filter = ("status", "message__direction", "connection__backend", NextTryFilter, "date")
    search_fields = ("connection__identity",)
    search_help_text = "A number, a message's external id, or part of its text"
    actions = ("resend",)
    fields = (
        "message_link",
        "connection",
        "status",
        "error",
        "external_id",
        "attempts",
        "next_try",
        "date",
        "updated",
        "sent",
        "delivered",
    )
    readonly_fields = ("message_link",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for a number; if there is none like it, for messages as their own page does."""
        term = search_term.strip()
        if not term:
            return queryset, False
        of_number = queryset.filter(connection__identity=term)
        if of_number.exists():
            return of_number, False
        with_id = Message.objects.filter(external_id=term)
        found = with_id if with_id.exists() else Message.objects.filter(text__icontains=term)
        return queryset.filter(message__in=found.values("pk")), False

    @admin.display(description="message")
    def message_link(self, transmission: Transmission) -> SafeString:
        """A link to the message."""
        return _link(transmission.message)

    @admin.action(permissions=["resend"], description="Send errored transmissions again")
    def resend(self, request: HttpRequest, queryset: QuerySet[Transmission]) -> None:
        """Send the errored among the selected transmissions again."""
        chosen = queryset.order_by().values("pk")
        self.resend_transmissions(request, Transmission.objects.filter(pk__in=chosen))


@admin.register(Gateway)
class GatewayAdmin(ReadOnlyAdmin):
    """Backends: whether they are called, and what waits for them."""

    list_display = ("name", "state", "failures", "waiting", "in_flight")
    list_display_links = None
    list_select_related = ("router_state",)
    ordering = ("name",)
    sortable_by = ()
    actions = ("pause", "resume")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Gateway]:
        """Add how many batches wait, and how many are being sent."""
        mine = Batch.objects.filter(backend=OuterRef("pk")).order_by().values("backend")
        counts = {
            "waiting_batches": mine.filter(claim_token__isnull=True),
            "batches_in_flight": mine.filter(claim_token__isnull=False),
        }
        numbers = {
            name: Subquery(batches.annotate(number=Count("pk")).values("number"))
            for name, batches in counts.items()
        }
        found: QuerySet[Gateway] = super().get_queryset(request).annotate(**numbers)
        return found

    @admin.display(description="state")
    def state(self, backend: Gateway) -> str:
        """Whether it is paused, or left alone, and until when."""
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

    @admin.display(description="batches in flight")
    def in_flight(self, backend: Any) -> int:
        """How many are being sent."""
        return backend.batches_in_flight or 0

    @admin.action(permissions=["pause"], description="Pause: nothing is sent to them")
    def pause(self, request: HttpRequest, queryset: QuerySet[Gateway]) -> None:
        """Have nothing sent to the selected backends."""
        backends = list(queryset)
        for backend in backends:
            operators.pause(backend)
        self.message_user(request, f"Paused: {', '.join(map(str, backends))}.")

    @admin.action(permissions=["pause"], description="Resume: they are called again, at once")
    def resume(self, request: HttpRequest, queryset: QuerySet[Gateway]) -> None:
        """Have the selected backends called again."""
        backends = list(queryset)
        for backend in backends:
            operators.resume(backend)
            doorbells.publish_outbound(backend, message_id=0)
        self.message_user(request, f"Called again: {', '.join(map(str, backends))}.")


def _link(message: Message) -> SafeString:
    page = reverse("admin:rapidsms_db_router_message_change", args=(message.pk,))
    text = Truncator(message.text).chars(SHORT // 2) or "(empty)"
    return format_html('<a href="{}">{}: {}</a>', page, message.pk, text)


def _pretty(value: Any) -> SafeString:
    said = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre style="margin: 0; white-space: pre-wrap">{}</pre>', said)
