"""Ways in from gateways that post by HTTP: what people text, and delivery reports.

Both views take the arguments of :class:`~rapidsms_db_router.gateways.access.AccessMixin`. They
answer 200 without a text, 400 for what cannot be read, and 403.
"""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.dateparse import parse_datetime
from rapidsms.router import lookup_connections, receive

from rapidsms_db_router import reports
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.connection import contained
from rapidsms_db_router.gateways.access import AccessMixin
from rapidsms_db_router.gateways.http.paths import MISSING, dig
from rapidsms_db_router.masking import mask

__all__ = ("HttpInboundView", "HttpReportView")

logger = logging.getLogger(__name__)

#: What RapidSMS's columns hold of a number, and how much of an unknown word is logged.
LONGEST_IDENTITY, LONGEST_WORD = 100, 30
#: More of a post is not read as reports.
MOST_REPORTS = 10_000


class GatewayView(AccessMixin):
    """What both views share.

    :param backend_name: the backend's name in ``INSTALLED_BACKENDS``.
    :param items: the path to a list, if a post has several messages or reports.
    """

    backend_name: str = ""
    items: str = ""

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._take(request.GET.dict())

    def post(self, request: HttpRequest) -> HttpResponse:
        if "json" not in (request.content_type or ""):
            return self._take({**request.GET.dict(), **request.POST.dict()})
        try:
            said = json.loads(request.body)
        except (ValueError, RecursionError):
            return HttpResponseBadRequest("no JSON")
        return self._take(said)

    def _take(self, said: Any) -> HttpResponse:
        several = dig(said, self.items) if self.items else [said]
        if not isinstance(several, list):
            return HttpResponseBadRequest("no list of items")
        taken = [self.take(item) for item in several[:MOST_REPORTS]]
        if not all(taken):
            logger.error("post_refused view=%s items=%s", type(self).__name__, taken.count(False))
            return HttpResponseBadRequest("an item could not be read")
        # some gateways send what is answered to the phone
        return HttpResponse(content_type="text/plain")

    def take(self, item: Any) -> bool:
        """Take one item; return whether it could be read."""
        raise NotImplementedError


class HttpInboundView(GatewayView):
    """Takes what people text.

    :param identity: the path to the sender's number.
    :param text: the path to the text.
    :param id: the path to the gateway's id of the message: a message that is posted again is then
        told from a new one.
    """

    identity: str = "from"
    text: str = "text"
    id: str = ""

    def take(self, item: Any) -> bool:
        identity, text = _string(item, self.identity).strip(), dig(item, self.text)
        if not identity or len(identity) > LONGEST_IDENTITY or not isinstance(text, (str, int)):
            return False
        fields = {"external_id": found} if self.id and (found := _string(item, self.id)) else {}
        (connection,) = lookup_connections(self.backend_name, [_plain(identity)])
        receive(str(text), connection, fields=fields)
        return True


class HttpReportView(GatewayView):
    """Takes delivery reports.

    :param id: the path to the gateway's id, which :class:`.HttpBackend` kept.
    :param message_id: the path to our id of the message, if the gateway gives it back.
    :param identity: the path to the recipient's number.
    :param status: the path to what became of the message.
    :param outcomes: from the gateway's words for that to
        :class:`~rapidsms_db_router.choices.Outcome`; a word that is not among them moves nothing.
    :param reason: the path to why it was not delivered.
    :param date: the path to when, in ISO 8601.
    """

    id: str = ""
    message_id: str = ""
    identity: str = ""
    status: str = "status"
    outcomes: Mapping[str, str] = {}
    reason: str = ""
    date: str = ""

    def take(self, item: Any) -> bool:
        word = _string(item, self.status)
        external_id, message_id = _string(item, self.id), _string(item, self.message_id)
        if not word or not (external_id or message_id):
            return False
        outcome = self.outcomes.get(word)
        if outcome is None:
            shown = mask(word[:LONGEST_WORD]) if word.replace("_", "").isalnum() else "(not shown)"
            logger.info("report_of_unknown_status backend=%s status=%s", self.backend_name, shown)
            return True
        with contained():
            reports.record(
                Outcome(outcome),
                message_id=message_id or None,
                identity=_string(item, self.identity) or None,
                external_id=external_id or None,
                backend_name=self.backend_name or None,
                date=_date(_string(item, self.date)),
                reason=_string(item, self.reason),
            )
        return True


def _string(item: Any, path: str) -> str:
    """Return what a path leads to, as a string; an empty one for what is not there."""
    said = dig(item, path) if path else MISSING
    return str(said) if isinstance(said, (str, int, float)) else ""


def _plain(identity: str) -> str:
    return identity.encode("utf-8", "replace").decode().replace("\0", "")


def _date(said: str) -> datetime.datetime | None:
    try:
        return parse_datetime(said) if said else None
    except ValueError:
        return None
