"""Ways in from Kannel: what people text, and what became of what they were sent.

For projects with ``rapidsms.backends.kannel``, in place of the views of that app.
"""

from __future__ import annotations

import codecs
import datetime
import logging
from typing import Any
from urllib.parse import unquote_to_bytes

from django import forms
from django.http import HttpResponse, HttpResponseForbidden, QueryDict
from django.utils import timezone
from rapidsms.backends.kannel import views
from rapidsms.backends.kannel.forms import KannelForm

from rapidsms_db_router import conf
from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.gateways.access import AccessMixin
from rapidsms_db_router.gateways.kannel.outgoing import KannelBackend
from rapidsms_db_router.gateways.kannel.signing import is_signed
from rapidsms_db_router.gateways.outgoing import LONGEST_IDENTITY
from rapidsms_db_router.models.message import Message

__all__ = ("DeliveryReportView", "KannelBackendView")

logger = logging.getLogger(__name__)

#: Of what Kannel says no charset for.
USUAL_CHARSET = "utf-8"
#: Codecs for programs and host names. No telephone writes in them. Some make another text of one.
PYTHONS_OWN = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
#: What the columns hold.
LONGEST_MESSAGE_ID = Message._meta.get_field("external_id").max_length
LONGEST_WORDS = 255
#: Between these a report's date may be; no database holds each date in each time zone.
OLDEST, NEWEST = datetime.timedelta(days=-366), datetime.timedelta(days=1)


class InboundForm(KannelForm):
    """What Kannel says of an inbound message; with its own id of it, if it is asked for that."""

    #: Whatever was texted: nothing too, and characters that no text should have.
    text = forms.Field(required=False)
    id = forms.CharField(max_length=LONGEST_IDENTITY)
    message_id = forms.CharField(required=False, max_length=LONGEST_MESSAGE_ID)

    def clean_text(self) -> str:
        text = self.cleaned_data["text"]
        if text is None:
            raise forms.ValidationError("get-url has no text=%b", code="required")
        return str(text)

    def get_incoming_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_incoming_data()
        if given := self.cleaned_data["message_id"]:
            data["fields"] = {"external_id": given}
        return data


class KannelBackendView(AccessMixin, views.KannelBackendView):
    """Takes what people text, as RapidSMS's view of this name does, and loses none of it.

    Kannel posts a message again if it did not hear the answer. ``message_id=%I`` in Kannel's
    ``get-url`` tells it from a new message. A text in another charset than UTF-8 is read in that
    charset, such as UTF-16BE for letters that the GSM alphabet does not have. An empty text is a
    message, too. ``as_view()`` takes the arguments of
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
        for pair in self.request.META.get("QUERY_STRING", "").split("&"):
            name, _, value = pair.partition("=")
            if name == "text":
                text = unquote_to_bytes(value.replace("+", " "))
                given["text"] = decode(text, given.get("charset") or USUAL_CHARSET)
        # Kannel's numbers are ASCII; MySQL's three-byte "utf8" cannot hold each other character
        given["id"] = narrow_text(given.get("id", ""))
        return given


def decode(text: bytes, charset: str) -> str:
    """Return what was texted; what its charset does not have is U+FFFD."""
    try:
        is_pythons = codecs.lookup(charset).name in PYTHONS_OWN
        return text.decode(USUAL_CHARSET if is_pythons else charset, "replace")
    except Exception:  # no charset that Python knows, or a codec of something else, such as "hex"
        return text.decode(USUAL_CHARSET, "replace")


class DeliveryReportView(AccessMixin, views.DeliveryReportView):
    """Stores delivery reports, as RapidSMS's view of this name does, and those without words.

    Some message centres say only that a message was delivered, so that Kannel's ``status_text`` is
    empty; others have no name for ``smsc``.

    A report without the signature of :class:`.KannelBackend` is refused with 403.
    """

    #: Whether reports have to be signed; by default if a backend of the project signs.
    signed: bool | None = None

    def get_form_kwargs(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_form_kwargs()
        given = kwargs["data"] = self.request.GET.copy()
        for name in ("status_text", "smsc"):  # a message centre's words, of whatever length
            given[name] = narrow_text(clean_text(given.get(name, "")))[:LONGEST_WORDS]
        return kwargs

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        for name in ("status_text", "smsc"):
            form.fields[name].required = False
        return form

    def form_valid(self, form: Any) -> HttpResponse:
        report = form.instance
        if self._has_to_be_signed():
            given = self.request.GET.get("signature", "")
            if not is_signed(report.message_id, report.identity, given):
                logger.warning("report_not_signed")
                return HttpResponseForbidden("no valid signature")
        moment = timezone.now()
        if not OLDEST <= report.date_sent - moment <= NEWEST:
            report.date_sent = moment
        response: HttpResponse = super().form_valid(form)
        return response

    def is_open(self) -> bool:
        """Return whether everybody may report; signed reports are Kannel's alone."""
        return super().is_open() and not self._has_to_be_signed()

    def _has_to_be_signed(self) -> bool:
        if self.signed is not None:
            return self.signed
        return any(_signs(name) for name, _ in conf.installed_backends())


def _signs(backend_name: str) -> bool:
    engine = conf.engine_class(backend_name)
    return isinstance(engine, type) and issubclass(engine, KannelBackend)
