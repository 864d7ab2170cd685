"""Ways in from gateways that post by HTTP: what people text, and delivery reports.

Both views take the arguments of :class:`~rapidsms_db_router.gateways.access.AccessMixin`. They
answer 200 without a text, 400 for what cannot be read, and 403. ``as_view()`` raises
:class:`~django.core.exceptions.ImproperlyConfigured` for a wrong argument, and names it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from rapidsms.router import lookup_connections, receive

from rapidsms_db_router import reports
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.connection import contained
from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.gateways.access import AccessMixin
from rapidsms_db_router.gateways.http import paths
from rapidsms_db_router.gateways.http.options import NUMBERS, written
from rapidsms_db_router.gateways.outgoing import LONGEST_IDENTITY
from rapidsms_db_router.masking import mask

__all__ = ("HttpInboundView", "HttpReportView")

logger = logging.getLogger(__name__)


class GatewayView(AccessMixin):
    """What both views share.

    :param backend_name: the backend's name in ``INSTALLED_BACKENDS``.
    :param items: the path to a list, if a post has several messages or reports.
    """

    backend_name: str = ""
    items: str = ""

    #: Arguments that are paths into an item, and those of them that have to be set.
    PATHS: tuple[str, ...] = ()
    NEEDED: tuple[str, ...] = ()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view, after a check of the arguments."""
        for name, problem in cls.wrong(lambda name: initkwargs.get(name, getattr(cls, name))):
            raise ImproperlyConfigured(f"{cls.__name__}.as_view(): {name!r} {problem}.")
        return super().as_view(**initkwargs)

    @classmethod
    def wrong(cls, argument: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
        """Yield each argument that is wrong, and what is wrong with it.

        :param argument: returns the argument of a name.
        """
        backend_name = argument("backend_name")
        if not isinstance(backend_name, str) or not backend_name:
            yield "backend_name", f"is {backend_name!r}; it is a name of INSTALLED_BACKENDS"
        if not (argument("items") == "" or paths.is_path(argument("items"))):
            yield "items", f"is {argument('items')!r}, and has to be a path such as 'results'"
        for name in cls.PATHS:
            path = argument(name)
            if path == "" and name not in cls.NEEDED:
                continue
            if not paths.is_path(path) or paths.EACH in path:
                yield name, f"is {path!r}, and has to be a path such as 'status.name'"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._take(request.GET.dict())

    def post(self, request: HttpRequest) -> HttpResponse:
        if "json" not in (request.content_type or ""):
            return self._take({**request.GET.dict(), **request.POST.dict()})
        try:
            said = json.loads(request.body)
        except (ValueError, RecursionError):
            return self._refuse("no JSON")
        return self._take(said)

    def _take(self, said: Any) -> HttpResponse:
        several = paths.items(said, self.items) if self.items else [said]
        if several is None:
            return self._refuse("no list where 'items' says")
        refused = self.take(several)
        if refused:
            logger.error("post_refused view=%s items=%s", type(self).__name__, refused)
            # a gateway that is refused posts the others again, too
            if refused == len(several):
                return HttpResponseBadRequest("no item could be read")
        # some gateways send what is answered to the phone
        return HttpResponse(content_type="text/plain")

    def _refuse(self, why: str) -> HttpResponse:
        logger.error("post_refused view=%s reason=%r", type(self).__name__, why)
        return HttpResponseBadRequest(why)

    def take(self, items: Sequence[Any]) -> int:
        """Take items; return how many could not be read."""
        raise NotImplementedError


class HttpInboundView(GatewayView):
    """Takes what people text.

    :param identity: the path to the sender's number.
    :param text: the path to the text.
    :param id: the path to the gateway's id of the message: a message that is posted again is then
        told from a new one.
    :param numbers: how the sender's number is stored: ``"stored"``, as the gateway writes it, or
        ``"plus"`` or ``"digits"``, as for the backend. Outbound messages to the same person have
        to be to the same number.
    """

    identity: str = "from"
    text: str = "text"
    id: str = ""
    numbers: str = "stored"

    PATHS = ("identity", "text", "id")
    NEEDED = ("identity", "text")

    @classmethod
    def wrong(cls, argument: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
        """Yield each argument that is wrong, and what is wrong with it."""
        yield from super().wrong(argument)
        if argument("numbers") not in NUMBERS:
            yield "numbers", f"is {argument('numbers')!r}; it is one of {', '.join(NUMBERS)}"

    def take(self, items: Sequence[Any]) -> int:
        """Take messages; return how many could not be read."""
        return [self._take_one(item) for item in items].count(False)

    def _take_one(self, item: Any) -> bool:
        text = paths.dig(item, self.text)
        # MySQL's three-byte "utf8" cannot hold each character
        identity = narrow_text(clean_text(_value(item, self.identity))).strip()
        if not 0 < len(identity) <= LONGEST_IDENTITY:
            return False
        if text is not None and not isinstance(text, (str, int, float)):
            return False
        fields = {"external_id": found} if (found := _value(item, self.id)) else {}
        number = written(identity, self.numbers)
        (connection,) = lookup_connections(self.backend_name, [number])
        receive(paths.plain(text), connection, fields=fields)
        return True


class HttpReportView(GatewayView):
    """Takes delivery reports.

    :param id: the path to the gateway's id, which :class:`.HttpBackend` kept.
    :param message_id: the path to our id of the message, if the gateway gives it back. One of both
        has to be set.
    :param identity: the path to the recipient's number.
    :param status: the path to what became of the message.
    :param outcomes: from the gateway's words for that to
        :class:`~rapidsms_db_router.choices.Outcome`; a word that is not among them moves nothing,
        and is logged.
    :param reason: the path to why it was not delivered.
    :param date: the path to when, in ISO 8601.
    """

    id: str = ""
    message_id: str = ""
    identity: str = ""
    status: str = "status"
    outcomes: Mapping[Any, str] = {}
    reason: str = ""
    date: str = ""

    PATHS = ("id", "message_id", "identity", "status", "reason", "date")
    NEEDED = ("status",)

    @classmethod
    def wrong(cls, argument: Callable[[str], Any]) -> Iterator[tuple[str, str]]:
        """Yield each argument that is wrong, and what is wrong with it."""
        yield from super().wrong(argument)
        if not argument("id") and not argument("message_id"):
            yield "id", "is missing, and so is 'message_id': a report would be about nothing"
        outcomes = argument("outcomes")
        if not isinstance(outcomes, Mapping) or not outcomes:
            yield "outcomes", "has to be a dictionary from the gateway's words to outcomes"
            return
        for word, outcome in outcomes.items():
            if outcome not in Outcome.values:
                known = ", ".join(Outcome.values)
                yield "outcomes", f"has {outcome!r} for {word!r}; there are: {known}"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        """Get ready for a request."""
        super().setup(request, *args, **kwargs)
        self._outcomes = {paths.plain(word): said for word, said in self.outcomes.items()}

    def take(self, items: Sequence[Any]) -> int:
        """Take reports; return how many could not be read."""
        said = [self._read(item) for item in items]
        with contained():
            reports.record_all([each for each in said if each])
        return said.count(None)

    def _read(self, item: Any) -> dict[str, Any] | None:
        """Return what a report says; empty if its word is unknown, ``None`` if it is no report."""
        word = _value(item, self.status)
        external_id, message_id = _value(item, self.id), _value(item, self.message_id)
        if not word or not (external_id or message_id):
            return None
        outcome = self._outcomes.get(word)
        if outcome is None:
            logger.warning(
                "report_of_unknown_status backend=%s status=%s",
                self.backend_name,
                paths.shown(mask(word)),
            )
            return {}
        return {
            "outcome": outcome,
            "message_id": message_id or None,
            "identity": _value(item, self.identity) or None,
            "external_id": external_id or None,
            "backend_name": self.backend_name,
            "date": _value(item, self.date) or None,
            "reason": _value(item, self.reason),
        }


def _value(item: Any, path: str) -> str:
    """Return what a path leads to, as a string; an empty one for what is not there."""
    return paths.plain(paths.dig(item, path)) if path else ""
