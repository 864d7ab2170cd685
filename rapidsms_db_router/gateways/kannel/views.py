"""Ways in from Kannel: what people text, and what became of what they were sent.

For projects with ``rapidsms.backends.kannel``, in place of the views of that app.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from django import forms
from django.http import QueryDict
from rapidsms.backends.kannel import views
from rapidsms.backends.kannel.forms import KannelForm

from rapidsms_db_router.gateways.access import AccessMixin

__all__ = ("DeliveryReportView", "KannelBackendView")

#: Of what Kannel says no charset for.
USUAL_CHARSET = "utf-8"


class InboundForm(KannelForm):
    """What Kannel says of an inbound message; with its own id of it, if it is asked for that."""

    #: Whatever was texted: nothing too, and characters that no text should have.
    text = forms.Field(required=False)
    message_id = forms.CharField(required=False)

    def clean_text(self) -> str:
        text = self.cleaned_data["text"]
        if text is None:
            raise forms.ValidationError("get-url has no text=%a", code="required")
        return str(text)

    def get_incoming_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_incoming_data()
        if given := self.cleaned_data["message_id"]:
            data["fields"] = {"external_id": given}
        return data


class KannelBackendView(AccessMixin, views.KannelBackendView):
    """Takes what people text, as RapidSMS's view of this name does, and loses none of it.

    With ``message_id=%I`` in Kannel's ``get-url`` a message that Kannel posts again, since it did
    not hear the answer, is told from a new one. A text in another charset than UTF-8, such as
    Kannel's UTF-16BE for what the GSM alphabet does not have, is read in that charset; and an
    empty text is a message, too. ``as_view()`` takes the arguments of
    :class:`~rapidsms_db_router.gateways.access.AccessMixin`.
    """

    form_class = InboundForm

    def get_form_kwargs(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_form_kwargs()
        kwargs["data"] = self._parameters()
        return kwargs

    def _parameters(self) -> QueryDict:
        """Return the request's parameters, with the text in the charset that they name."""
        given: QueryDict = self.request.GET.copy()
        # as it was written: Django has read it as UTF-8, which cannot be undone
        for pair in self.request.META["QUERY_STRING"].split("&"):
            name, _, value = pair.partition("=")
            if name == "text":
                text = unquote_to_bytes(value.replace("+", " "))
                try:
                    given["text"] = text.decode(given.get("charset") or USUAL_CHARSET, "replace")
                except LookupError:  # no charset that Python knows
                    given["text"] = text.decode(USUAL_CHARSET, "replace")
        return given


class DeliveryReportView(AccessMixin, views.DeliveryReportView):
    """Stores delivery reports, as RapidSMS's view of this name does; those without words, too.

    Some message centres say no more than that a message was delivered, so that Kannel has nothing
    to put into ``status_text``; others have no name for ``smsc``.
    """

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        for name in ("status_text", "smsc"):
            form.fields[name].required = False
        return form
