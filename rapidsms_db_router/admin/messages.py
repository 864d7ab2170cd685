"""The pages of messages and of their transmissions."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rapidsms.models import Connection

from rapidsms_db_router.admin.base import (
    SHORT,
    BackendFilter,
    ConnectionBackendFilter,
    ReadOnlyAdmin,
    link,
    pretty,
)
from rapidsms_db_router.admin.pages import address, linked
from rapidsms_db_router.admin.states import StateFilter
from rapidsms_db_router.choices import FAILED, RETRYING, WORDS, Direction, Status
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.identities import masked
from rapidsms_db_router.models import BulkAction, FormerConnection, Message, Transmission
from rapidsms_db_router.models.message import backend_context
from rapidsms_db_router.models.transmission import BACKEND, IDENTITY
from rapidsms_db_router.models.transmission import RETRYING as RETRYING_TRANSMISSIONS
from rapidsms_db_router.personal import VIEW

#: Characters of a number that a list shows.
NUMBER = 25


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """Messages, with counts of their transmissions by status."""

    list_display = (
        "id",
        "date",
        "direction",
        "number",
        "short_text",
        "state_and_error",
    )
    list_display_links = ("id", "short_text")
    personal: ClassVar[dict[str, str]] = {
        "number": "masked_number",
        "short_text": "length",
        "state_and_error": "word",
    }
    linking: ClassVar[dict[str, tuple[str, str]]] = {
        "transmission_counts": ("rapidsms_db_router.view_transmission", "unlinked_counts")
    }
    list_filter = ("direction", StateFilter, BackendFilter, "date")
    search_fields = ("text",)
    search_help_text = "A number, an external id, or part of a text"
    actions = ("resend", "reprocess", "cancel")
    fieldsets = (
        (None, {"fields": ("direction", "word", "text", "transmission_counts", "error")}),
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
        "word",
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
        if not term or not self.get_search_fields(request):
            return queryset, False
        of_number = Transmission.objects.filter(_of_number(term)).values("message")
        # One after the other, since no index serves an OR of these, and none at all serves the
        # last.
        for found in (queryset.filter(pk__in=of_number), queryset.filter(external_id=term)):
            if found.exists():
                return found, False
        return queryset.filter(text__icontains=term), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """Add one number and backend of each message, and whether it has others."""
        # in no order: the database would rather walk along the primary key for that
        theirs = Transmission.objects.filter(message=OuterRef("pk")).order_by()
        found: QuerySet[Message] = super().get_queryset(request)
        return found.annotate(
            one_number=Subquery(theirs.values(said=IDENTITY)[:1]),
            one_connection=Subquery(theirs.values("connection")[:1]),
            one_backend=Subquery(theirs.values(said=BACKEND)[:1]),
            another=Subquery(theirs.values("pk")[1:2]),
        )

    def view_on_site(self, message: Any) -> str | None:
        """The operators' page of its recipients; or of the conversation with one person."""
        if message.another and message.direction == Direction.OUTGOING:
            return address("router-broadcast", message.pk)
        return address("router-conversation", message.one_connection)

    @admin.display(description=gettext_lazy("number"))
    def number(self, message: Any) -> str:
        """From or to which number it is, and by which backend; of several one."""
        return self._number(message, Truncator(message.one_number or "-").chars(NUMBER))

    @admin.display(description=gettext_lazy("number"))
    def masked_number(self, message: Any) -> str:
        """The last digits of the number, and the backend."""
        return self._number(message, masked(message.one_number or ""))

    def _number(self, message: Any, number: str) -> str:
        said = _("%(number)s and others") % {"number": number} if message.another else number
        link = linked(said, self.view_on_site(message))
        return format_html("{} via {}", link, message.one_backend) if message.one_backend else link

    @admin.display(description=gettext_lazy("text"))
    def length(self, message: Message) -> str:
        """How long the text is."""
        return _("%(number)s characters") % {"number": len(message.text)}

    @admin.display(description="text", ordering=None)
    def short_text(self, message: Message) -> str:
        """The beginning of the text."""
        return Truncator(message.text).chars(SHORT) or "(empty)"

    @admin.display(description="transmissions")
    def transmission_counts(self, message: Message) -> SafeString | str:
        """How many transmissions have which status, each a link to them."""
        page = reverse("admin:rapidsms_db_router_transmission_changelist")
        return (
            format_html_join(
                ", ",
                '<a href="{}?message__id__exact={}&amp;state={}">{} {}</a>',
                (
                    (page, message.pk, state, intcomma(number), word)
                    for state, number, word in _counts(message)
                ),
            )
            or "none"
        )

    @admin.display(description="transmissions")
    def unlinked_counts(self, message: Message) -> str:
        """How many transmissions have which status."""
        counts = (f"{intcomma(number)} {word}" for _state, number, word in _counts(message))
        return ", ".join(counts) or "none"

    @admin.display(description="in response to")
    def original(self, message: Message) -> SafeString | str:
        """A link to the message this one answers."""
        if message.in_response_to is None:
            return "-"
        return link(message.in_response_to)

    @admin.display(description="replies")
    def replies(self, message: Message) -> SafeString | str:
        """Links to the first replies to this message."""
        replies = message.responses.order_by("pk")[:20]
        return format_html_join(", ", "{}", ((link(reply),) for reply in replies)) or "-"

    @admin.display(description="fields")
    def pretty_fields(self, message: Message) -> SafeString:
        """The message's fields, as JSON."""
        return pretty(message.fields)

    @admin.display(description="backend context")
    def pretty_context(self, message: Message) -> SafeString:
        """What the backend gets beside the text, as JSON."""
        return pretty(backend_context(message))

    @admin.action(permissions=["resend"], description="Send errored transmissions again")
    def resend(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        """Send the errored transmissions of the selected messages again."""
        selected = queryset.order_by().values("pk")
        rows = Transmission.objects.filter(message__in=selected)
        return self.ask_or_start(request, BulkAction.Kind.RESEND, rows)

    @admin.action(permissions=["reprocess"], description="Process errored inbound messages again")
    def reprocess(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        """Run the apps on the errored inbound messages among the selected again."""
        return self.ask_or_start(request, BulkAction.Kind.REPROCESS, queryset)

    @admin.action(permissions=["cancel"], description="Cancel what is still to be sent")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        """Give up what is still to be sent of the selected outbound messages."""
        return self.ask_or_start(request, BulkAction.Kind.CANCEL, queryset)


@admin.register(Transmission)
class TransmissionAdmin(ReadOnlyAdmin):
    """Transmissions, with the error and the next try of failed ones."""

    list_display = (
        "id",
        "person",
        "state_and_error",
        "attempts",
        "next_try",
        "message_link",
    )
    personal: ClassVar[dict[str, str]] = {
        "person": "masked_connection",
        "state_and_error": "word",
        "message_link": "",
    }
    linking: ClassVar[dict[str, tuple[str, str]]] = {
        "person": (VIEW, "unlinked_person"),
        "masked_connection": (VIEW, "unlinked_masked_connection"),
        "message_link": (VIEW, "message_id"),
    }
    list_select_related = ("message", "connection__backend", "former")
    list_filter = (
        StateFilter,
        "message__direction",
        ("connection__backend", ConnectionBackendFilter),
        "date",
    )
    search_fields = ("connection__identity",)
    search_help_text = "A number, a message's external id, or part of its text"
    actions = ("resend",)
    fields = (
        "message_link",
        "person",
        "word",
        "error",
        "external_id",
        "attempts",
        "next_try",
        "date",
        "updated",
        "sent",
        "delivered",
    )
    readonly_fields = ("message_link", "person", "word")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Transmission]:
        """Join what a page shows of each: alone, it may be read from a replica."""
        return super().get_queryset(request).select_related(*self.list_select_related)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for a number; if there is none like it, for messages as their own page does."""
        term = search_term.strip()
        if not term or not self.get_search_fields(request):
            return queryset, False
        of_number = queryset.filter(_of_number(term))
        if of_number.exists():
            return of_number, False
        with_id = Message.objects.filter(external_id=term)
        found = with_id if with_id.exists() else Message.objects.filter(text__icontains=term)
        return queryset.filter(message__in=found.values("pk")), False

    def view_on_site(self, transmission: Transmission) -> str | None:
        """The operators' page of the conversation."""
        return address("router-conversation", transmission.connection_id)

    @admin.display(description=gettext_lazy("connection"))
    def person(self, transmission: Transmission) -> str:
        """Number and backend, also if the connection was deleted."""
        return linked(self.unlinked_person(transmission), self.view_on_site(transmission))

    @admin.display(description=gettext_lazy("connection"))
    def unlinked_person(self, transmission: Transmission) -> str:
        """The same, as words alone."""
        return f"{transmission.identity} via {transmission.backend_name}"

    @admin.display(description=gettext_lazy("connection"))
    def masked_connection(self, transmission: Transmission) -> str:
        """The last digits of the number, and the backend."""
        said = self.unlinked_masked_connection(transmission)
        return linked(said, self.view_on_site(transmission))

    @admin.display(description=gettext_lazy("connection"))
    def unlinked_masked_connection(self, transmission: Transmission) -> str:
        """The same, as words alone."""
        return f"{masked(transmission.identity)} ({transmission.backend_name})"

    @admin.display(description="message")
    def message_link(self, transmission: Transmission) -> SafeString:
        """A link to the message."""
        return link(transmission.message)

    @admin.action(permissions=["resend"], description="Send errored transmissions again")
    def resend(self, request: HttpRequest, queryset: QuerySet[Transmission]) -> HttpResponse | None:
        """Send the errored among the selected transmissions again."""
        return self.ask_or_start(request, BulkAction.Kind.RESEND, queryset)


def _counts(message: Message) -> list[tuple[str, int, str]]:
    """Return how many transmissions have which status: for the filter, the number, the word."""
    of_status = message.transmissions.values_list("status").order_by()
    retried_rows = Count("pk", filter=RETRYING_TRANSMISSIONS)
    counts: list[tuple[str, int, str]] = []
    for status, count, retried in sorted(of_status.annotate(n=Count("pk"), of=retried_rows)):
        if status != Status.ERRORED:
            counts.append((status, count, _(WORDS[status])))
            continue
        both = ((retried, RETRYING), (count - retried, FAILED))
        counts += [(word, number, _(word)) for number, word in both if number]
    return counts


def _of_number(number: str) -> Q:
    """Return the condition that a transmission is from or to a number."""
    former = FormerConnection.objects.filter(identity=number)
    if ids := list(former.values_list("pk", flat=True)[:100]):
        theirs = Connection.objects.using(alias()).filter(identity=number)
        keys = [*ids, *theirs.values_list("pk", flat=True)]
        # apart: by the relation itself Django would join the connections, and find none
        return Q(pk__in=Transmission.objects.filter(connection__in=keys).values("pk"))
    return Q(connection__identity=number)
