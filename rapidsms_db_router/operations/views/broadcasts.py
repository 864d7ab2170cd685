"""Broadcasts: a list, and a form to write one."""

from __future__ import annotations

import io
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rapidsms.models import Backend

from rapidsms_db_router import personal
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.operations.broadcasts import writing
from rapidsms_db_router.operations.listing import ROWS
from rapidsms_db_router.operations.models import Broadcast, Draft
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.operations.views.messages import primary_key
from rapidsms_db_router.personal import VIEW

#: The permission to write broadcasts.
BROADCAST = "rapidsms_db_router_operations.broadcast"


class BroadcastsView(OperatorsPage):
    """Messages to many people, the newest first."""

    template_name = "rapidsms_db_router/operations/broadcasts.html"
    menu = "broadcasts"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        rows = Broadcast.objects.select_related("message").order_by("-message")
        before = primary_key(self.request.GET.get("before"))
        if before is not None:
            rows = rows.filter(message__lt=before)
        some = list(rows[: ROWS + 1])
        return super().get_context_data(
            broadcasts=some[:ROWS],
            before=some[ROWS - 1].message_id if len(some) > ROWS else None,
            may_see=personal.may_see(self.request.user),
            may_write=self.request.user.has_perm(BROADCAST),
            **kwargs,
        )


class DraftForm(forms.Form):
    """What an author writes."""

    text = forms.CharField(label=gettext_lazy("Text"), widget=forms.Textarea(attrs={"rows": 4}))
    backend = forms.ModelChoiceField(
        Backend.objects.using(alias()).order_by("name"),
        label=gettext_lazy("Backend"),
        empty_label=None,
    )
    numbers = forms.FileField(
        required=False,
        label=gettext_lazy("Numbers"),
        help_text=gettext_lazy(
            "A CSV file with a number at the beginning of each line. Without a file the broadcast"
            " is for everybody whom this backend knows."
        ),
    )
    not_before = forms.DateTimeField(required=False, label=gettext_lazy("Not before"))
    expires_at = forms.DateTimeField(required=False, label=gettext_lazy("Not after"))

    def clean_text(self) -> str:
        """Return the text with line ends of one character, as browsers do not post them."""
        return str(self.cleaned_data["text"]).replace("\r\n", "\n")

    def clean_numbers(self) -> list[str] | None:
        """Return the numbers of the file; name the lines that have none."""
        given = self.cleaned_data["numbers"]
        if given is None:
            return None
        lines = io.TextIOWrapper(given, encoding="utf-8", errors="replace")
        found, wrong = writing.numbers(lines)
        if wrong:
            places = ", ".join(str(place) for place, _cell in wrong[:10])
            words = {"count": len(wrong), "places": places}
            raise forms.ValidationError(
                _("%(count)s lines have no number: %(places)s."), params=words
            )
        if not found:
            raise forms.ValidationError(_("The file has no number."))
        return found

    def clean(self) -> dict[str, Any]:
        """Refuse dates that nobody would be sent the broadcast by."""
        cleaned: dict[str, Any] = super().clean() or {}
        begin, end = cleaned.get("not_before"), cleaned.get("expires_at")
        if end is not None and end <= max(begin or now(), now()):
            self.add_error("expires_at", _("This is over before anything may be sent."))
        return cleaned


class WriteView(OperatorsPage):
    """The form of a broadcast; what it is given becomes a draft."""

    permission_required = (VIEW, BROADCAST)
    template_name = "rapidsms_db_router/operations/write.html"
    menu = "broadcasts"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**{"form": DraftForm(), **kwargs})

    def post(self, request: HttpRequest) -> HttpResponse:
        """Keep the draft, and show what it would do."""
        form = DraftForm(request.POST, request.FILES)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form))
        draft = writing.write(request.user.get_username(), **form.cleaned_data)
        return redirect("router-draft", draft.pk)


class DraftView(OperatorsPage):
    """A draft, with whom it is for; and the button that sends it."""

    permission_required = (VIEW, BROADCAST)
    template_name = "rapidsms_db_router/operations/draft.html"
    menu = "broadcasts"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        draft = get_object_or_404(Draft.objects.select_related("backend"), pk=kwargs["pk"])
        return super().get_context_data(
            draft=draft,
            preview=writing.preview(draft),
            may_see=personal.may_see(self.request.user),
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Send it, send a test of it, or discard it."""
        asked, by = request.POST.get("do"), request.user.get_username()
        if asked == "discard":
            writing.discard(pk, by)
            return redirect("router-broadcasts")
        if asked == "test":
            return self._test(request, pk)
        message = writing.send_draft(pk, by)
        if message is None:
            messages.warning(request, _("This draft was sent or discarded already."))
            return redirect("router-broadcasts")
        return redirect("router-broadcast", message.pk)

    def _test(self, request: HttpRequest, pk: int) -> HttpResponse:
        draft = get_object_or_404(Draft, pk=pk)
        found, _wrong = writing.numbers([request.POST.get("number", "")])
        if found:
            writing.send_test(draft, found[0], request.user.get_username())
            messages.success(request, _("The test is stored, and will be sent."))
        else:
            messages.error(request, _("A test needs a number."))
        return redirect("router-draft", pk)
