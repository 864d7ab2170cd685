"""Sends by HTTP, as the backend's options say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from rapidsms.backends.base import BackendBase

from rapidsms_db_router.db.text import clean_text
from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.gateways.connections import connections_to
from rapidsms_db_router.gateways.http import answers, options
from rapidsms_db_router.gateways.http.options import PLACEHOLDER, placeholders, written
from rapidsms_db_router.gateways.outgoing import NOT_A_NUMBER, NUMBER, timeouts
from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.segments import Coding

#: What may stand in the path of a URL as it is (RFC 3986, 3.3).
SAFE = "/%:@!$&'()*+,;=~"


def _most_recipients(given: Mapping[str, Any]) -> int | None:
    """Return how many recipients one call may carry: one, unless a field names several."""
    fields = [given.get(place, {}) for place in options.PLACES]
    return None if "identities" in placeholders(fields) else 1


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of each request; those that the options name come before ours."""
    own = {"Accept": "application/json"}
    if "json" in given:
        own["Content-Type"] = "application/json"
    elif "form" in given:
        own["Content-Type"] = "application/x-www-form-urlencoded"
    if auth := given.get("auth"):
        own["Authorization"] = f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"
    named: dict[str, str] = dict(given.get("headers", {}))
    taken = {name.lower() for name in named}
    return {name: value for name, value in own.items() if name.lower() not in taken} | named


class HttpBackend(BackendBase):
    """Sends by HTTP to a gateway that is described by options: no code has to be written.

    See :doc:`/howto/http` for the options, with examples.
    """

    #: Read by the router.
    max_recipients = staticmethod(_most_recipients)
    #: Read where errors are masked.
    harmless_options = options.HARMLESS

    def configure(self, **given: Any) -> None:
        """Keep the options.

        :raises ~django.core.exceptions.ImproperlyConfigured: for a wrong value: the messages wait.
        """
        for key, problem in options.wrong(given):
            raise ImproperlyConfigured(f"{key!r} {problem}.")
        self.options = given
        self._method = given.get("method", "POST")
        self._separator = given.get("separator", ",")
        self._headers = _headers(given)
        url = urlsplit(given["url"])
        self._path, self._query = quote(url.path, safe=SAFE) or "/", url.query
        self._server = f"{url.scheme}://{url.netloc}"
        self._timeouts = timeouts(given)

    @classmethod
    def check_options(cls, name: str, given: Mapping[str, Any]) -> list[CheckMessage]:
        """Check the options; called by the system check of the backends."""
        return options.check(name, given)

    def send(
        self, id_: Any, text: str, identities: list[str], context: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Send a text.

        :returns: by identity the gateway's id, or the exception why it did not take the message.
        :raises MessageSendingError: if the call failed as a whole.
        :raises OSError: or ``http.client.HTTPException``, if there is no answer.
        """
        wrong = [each for each in identities if not NUMBER.fullmatch(each)]
        refused: dict[str, Any] = {each: PermanentSendingError(NOT_A_NUMBER) for each in wrong}
        called = [each for each in identities if each not in refused]
        if not called:
            return refused
        way = self.options.get("numbers", "stored")
        numbers = [written(each, way) for each in called]
        text = clean_text(text)
        gsm, unicode = self.options.get("codings", options.CODINGS)
        values = {
            "identity": numbers[0],
            "identities": numbers,
            "text": text,
            "message_id": str(id_),
            "coding": gsm if segments.coding_of(text) is Coding.GSM else unicode,
        }
        try:
            target, body = self._request(values)
            kept = connections_to(self._server, *self._timeouts)
            answer = kept.request(self._method, target, body, self._headers)
            said = answers.read(answer, self.options, called)
        except Exception as exc:
            if not refused:
                raise
            return refused | dict.fromkeys(called, exc)
        return refused | (said or dict.fromkeys(called)) if refused else said

    def _request(self, values: Mapping[str, Any]) -> tuple[str, bytes | None]:
        given, body = self.options, None
        pairs = urlencode(self._fill(given.get("query", {}), values, joined=True))
        query = "&".join(filter(None, (self._query, pairs)))
        if "json" in given:
            body = json.dumps(self._fill(given["json"], values, joined=False)).encode()
        elif "form" in given:
            body = urlencode(self._fill(given["form"], values, joined=True)).encode()
        return f"{self._path}?{query}" if query else self._path, body

    def _fill(self, field: Any, values: Mapping[str, Any], *, joined: bool) -> Any:
        """Put the values in the places of their names; what they hold is never read again.

        :param joined: whether several recipients become one string.
        """
        if isinstance(field, Mapping):
            return {key: self._fill(each, values, joined=joined) for key, each in field.items()}
        if isinstance(field, (list, tuple)):
            return [self._fill(each, values, joined=joined) for each in field]
        if not isinstance(field, str):
            return field
        if field == "{identities}" and not joined:
            return values["identities"]

        def value(found: re.Match[str]) -> str:
            said = values[found[1]]
            return self._separator.join(said) if isinstance(said, list) else str(said)

        return PLACEHOLDER.sub(value, field)
