"""The list of messages, and one person's conversation."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router import personal
from rapidsms_db_router.acting import acted
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import FormerConnection, Transmission
from rapidsms_db_router.operations import audit, export, listing
from rapidsms_db_router.operations.listing import Wanted
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.operations.words import DIRECTIONS, STATES
from rapidsms_db_router.personal import VIEW

#: The permissions to write to people, and to export what a list shows.
SEND = "rapidsms_db_router_operations.send"
EXPORT = "rapidsms_db_router_operations.export"


class MessagesView(OperatorsPage):
    """What was texted and what was sent, the newest first."""

    template_name = "rapidsms_db_router/operations/messages.html"
    menu = "messages"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        backends = list(
            Backend.objects.using(alias()).order_by("name").values_list("name", flat=True)
        )
        wanted, may_see = wanted_by(self.request, backends)
        return super().get_context_data(
            wanted=wanted,
            page=listing.page(wanted, primary_key(self.request.GET.get("before"))),
            backends=backends,
            may_export=self.request.user.has_perm(EXPORT),
            states=[(word, label) for word, (label, _q) in STATES.items()],
            directions=DIRECTIONS.items(),
            may_see=may_see,
            **kwargs,
        )


class ExportView(OperatorsPage):
    """What the list of messages shows, as a file."""

    permission_required = (VIEW, EXPORT)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        backends = Backend.objects.using(alias()).values_list("name", flat=True)
        wanted, may_see = wanted_by(request, list(backends))
        by = request.user.get_username()
        mime, lines = export.FORMATS[kwargs["format"]]
        answer = StreamingHttpResponse(
            lines(export.rows(wanted, may_see=may_see, by=by)), content_type=mime
        )
        answer["Content-Disposition"] = f'attachment; filename="messages.{kwargs["format"]}"'
        return answer


def wanted_by(request: HttpRequest, backends: list[str]) -> tuple[Wanted, bool]:
    """Return what a list is to show, and whether its reader may see numbers and texts."""
    asked, may_see = request.GET, personal.may_see(request.user)
    wanted = Wanted(
        # a reader who sees neither cannot guess them by a search
        search=asked.get("search", "").strip() if may_see else "",
        backend=_one_of(backends, asked.get("backend")),
        direction=_one_of(DIRECTIONS, asked.get("direction")),
        state=_one_of(STATES, asked.get("state")),
    )
    return wanted, may_see


class ConversationView(OperatorsPage):
    """What one person has texted and was sent, by all connections; and a box to answer."""

    template_name = "rapidsms_db_router/operations/conversation.html"
    menu = "messages"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        connection = _connection(kwargs["pk"])
        contact = connection.contact if isinstance(connection, Connection) else None
        connections = [connection]
        if contact:
            connections = list(contact.connection_set.select_related("backend"))
        of_person = Transmission.objects.filter(connection__in=[each.pk for each in connections])
        before = primary_key(self.request.GET.get("before"))
        if before is not None:
            of_person = of_person.filter(pk__lt=before)
        ids = listing.newest(of_person, listing.ROWS + 1)
        shown = Transmission.objects.filter(pk__in=ids[: listing.ROWS]).order_by("-pk")
        shown = shown.select_related("message", "connection__backend", "former")
        rows = list(listing.with_others(shown))
        return super().get_context_data(
            connection=connection,
            history=audit.of(
                {
                    "connection": [each.pk for each in connections],
                    "message": [row.message_id for row in rows],
                }
            ),
            contact=contact,
            connections=connections,
            rows=rows,
            before=ids[listing.ROWS - 1] if len(ids) > listing.ROWS else None,
            may_see=personal.may_see(self.request.user),
            may_send=isinstance(connection, Connection) and self.request.user.has_perm(SEND),
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send an answer."""
        if not request.user.has_perm(SEND):
            return self.handle_no_permission()
        connection = _connection(pk)
        if not isinstance(connection, Connection):
            raise Http404
        text = request.POST.get("text", "").strip().replace("\r\n", "\n")
        if text:
            by = request.user.get_username()
            with transaction.atomic(using=alias()):
                sent = send(text, [connection])
                acted(
                    "answer", by, connection, count=1, after={"message": sent.database_message.pk}
                )
            messages.success(request, _("The answer is stored, and will be sent."))
        else:
            messages.error(request, _("An answer needs a text."))
        return redirect(request.path)


def _connection(pk: int) -> Connection | FormerConnection:
    rows = Connection.objects.using(alias()).select_related("backend", "contact")
    connection: Connection | None = rows.filter(pk=pk).first()
    return connection or get_object_or_404(FormerConnection, pk=pk)


def _one_of(choices: Any, said: str | None) -> str:
    """Return what was chosen, if it is a choice."""
    return said if said is not None and said in choices else ""


def primary_key(said: str | None) -> int | None:
    """Return a primary key from a parameter, if it is one that a column can hold."""
    if said is None or not (said.isascii() and said.isdigit()):
        return None
    return min(int(said[:19]), 2**63 - 1)
