"""Sends through Kannel's smsbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from rapidsms.backends.kannel import outgoing

from rapidsms_db_router.db.text import clean_text
from rapidsms_db_router.errors import PermanentSendingError, RetryLater
from rapidsms_db_router.gateways.connections import connections_to
from rapidsms_db_router.gateways.kannel import answers, options
from rapidsms_db_router.gateways.kannel.signing import signature
from rapidsms_db_router.gateways.outgoing import NOT_A_NUMBER, NUMBER, timeouts
from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.segments import Coding

#: The charset of a text in each coding: Kannel has to translate neither.
CHARSETS = {Coding.GSM: "UTF-8", Coding.UCS2: "UTF-16BE"}
#: Every report that Kannel has.
ALL_REPORTS = 31
#: What Kannel puts into the URL of a report.
REPORT = "status=%d&status_text=%A&smsc=%i&sms_id=%I&date_sent=%t"


class KannelBackend(outgoing.KannelBackend):
    """Sends through Kannel's smsbox, in place of RapidSMS's backend of this name.

    The text decides about the coding: what the GSM alphabet has goes as 7-bit characters, all else
    as UCS-2. Texts arrive unchanged. A text of too many parts is refused, and so is an identity
    that is no number. One call carries one recipient.
    """

    #: With several, Kannel gives all messages one id and one report URL. Read by the router.
    max_recipients = 1

    def configure(
        self,
        sendsms_url: str = options.SENDSMS_URL,
        sendsms_params: Mapping[str, Any] | None = None,
        delivery_report_url: str | None = None,
        max_parts: int = options.MAX_PARTS,
        **kwargs: Any,
    ) -> None:
        """Keep the options.

        :param sendsms_url: where smsbox takes messages.
        :param sendsms_params: parameters of every request, such as ``username``, ``password``,
            ``from`` and ``smsc``.
        :param delivery_report_url: scheme and host of the web server to which Kannel reports.
        :param max_parts: the most SMS that one text may take.
        :param kwargs: the router's options; what RapidSMS's backend takes beyond that is not used.
        :raises ~django.core.exceptions.ImproperlyConfigured: for a wrong value: the messages wait.
        """
        given = {
            "sendsms_url": sendsms_url,
            "sendsms_params": sendsms_params,
            "delivery_report_url": delivery_report_url,
        }
        for key, value, kind in options.wrong({**given, "max_parts": max_parts}):
            raise ImproperlyConfigured(f"{key!r} is {value!r}, which is not {kind}.")
        super().configure(**given)
        self.max_parts = max_parts
        self._timeouts = timeouts(kwargs)

    @classmethod
    def check_options(cls, name: str, given: Mapping[str, Any]) -> list[CheckMessage]:
        """Check the options; called by the system check of the backends."""
        return options.check(name, given)

    def prepare_request(
        self, id_: Any, text: str, identities: list[str], context: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the URL and the parameters of a request; subclasses may change both."""
        (identity,) = identities
        coding = segments.coding_of(text)
        charset = CHARSETS[coding]
        params = {
            **self.sendsms_params,
            "to": identity,
            "text": text.encode(charset),
            "coding": int(coding),
            "charset": charset,
        }
        if self.delivery_report_url:
            params.setdefault("dlr-mask", ALL_REPORTS)
            params["dlr-url"] = self._report_url(id_, identity)
        return {"url": self.sendsms_url, "params": params}

    def _report_url(self, id_: Any, identity: str) -> str:
        """Return the pattern of a report's URL: a percent sign that is meant stands twice."""
        try:
            path = reverse("kannel-delivery-report")
        except Exception as exc:  # a mistake in the project's URLs gives nobody up
            raise RetryLater("There is no URL 'kannel-delivery-report'.") from exc
        named = {"message_id": id_, "identity": identity, "signature": signature(id_, identity)}
        known = f"{str(self.delivery_report_url).rstrip('/')}{path}?{urlencode(named)}"
        return f"{known.replace('%', '%%')}&{REPORT}"

    def send(
        self, id_: Any, text: str, identities: list[str], context: Mapping[str, Any] | None = None
    ) -> None:
        """Send a text to one recipient.

        :raises PermanentSendingError: if the identity is no number, or the text is too long.
        :raises MessageSendingError: if Kannel refuses it; see :mod:`.answers`.
        :raises OSError: or ``http.client.HTTPException``, if there is no answer.
        """
        (identity,) = identities
        # Kannel takes whatever stands between blanks for a number of its own
        if not NUMBER.fullmatch(identity):
            raise PermanentSendingError(NOT_A_NUMBER)
        text = clean_text(text)
        parts = segments.count(text)
        if parts > self.max_parts:
            raise PermanentSendingError(
                f"The text takes {parts} SMS, and 'max_parts' is {self.max_parts}. Shorten it, or"
                " set 'max_parts' and Kannel's max-messages to more."
            )
        request = self.prepare_request(id_, text, identities, context or {})
        url = urlsplit(request["url"])
        query = "&".join(filter(None, (url.query, urlencode(request["params"]))))
        kept = connections_to(f"{url.scheme}://{url.netloc}", *self._timeouts)
        answer = kept.request("GET", f"{quote(url.path, safe='/%') or '/'}?{query}")
        answers.read(answer.status, answer.body)
