"""Who may post to a view: callers that know a secret, or come from a network, or both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from secrets import compare_digest
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseForbidden,
)
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View

__all__ = ("SECRET_HEADER", "SECRET_PARAMETER", "AccessMixin")

logger = logging.getLogger(__name__)

SECRET_HEADER = "X-Gateway-Secret"  # noqa: S105
#: In the query or the form, for gateways that can put the secret nowhere else.
SECRET_PARAMETER = "secret"  # noqa: S105

Network = IPv4Network | IPv6Network


class AccessMixin(View):
    """Refuses a request with 403 unless it comes from a known caller; stands before the view.

    ``class InboundView(AccessMixin, SomeView)``. The arguments belong to ``as_view()``, or are
    attributes of a subclass. Each is a string or several. If both ``secret`` and ``networks`` are
    set, a request has to satisfy both; if neither is, every request is let in. The view is exempt
    from CSRF checks, and logs no text and no number of a post that its form refuses.

    :param secret: one of these is in the header ``X-Gateway-Secret``, in ``Authorization: Bearer``,
        or in the parameter ``secret`` of the query or the form.
    :param networks: the caller's address is in one of these, such as ``"10.1.0.0/16"`` or
        ``"10.1.2.3"``. The caller's address is ``REMOTE_ADDR``.
    :param trusted_proxies: addresses of proxies that set ``X-Forwarded-For``. If ``REMOTE_ADDR``
        is one of these, the caller is the last address in ``X-Forwarded-For`` that is not. Without
        this argument ``X-Forwarded-For`` is not read.
    :raises ~django.core.exceptions.ImproperlyConfigured: from ``as_view()``, for an empty value,
        ``None`` (as of an environment variable that is not set), and what is no network.
    """

    secret: str | Collection[str] | None = None
    networks: str | Collection[str] | None = None
    trusted_proxies: str | Collection[str] | None = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Return the view, after a check of the arguments."""
        for name in ("secret", "networks", "trusted_proxies"):
            value = initkwargs.get(name, getattr(cls, name))
            if name in initkwargs or value is not None:
                _check(cls, name, value)
        view: Callable[..., HttpResponseBase] = super().as_view(**initkwargs)
        return view

    @method_decorator(csrf_exempt)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Let the request in, or answer 403; the answer does not say why, the log does."""
        missing = None
        if self.networks is not None and not self._is_near(request):
            missing = "network"
        elif self.secret is not None and not self._knows_secret(request):
            missing = "secret"
        if missing:
            logger.warning("request_refused view=%s wrong=%s", type(self).__name__, missing)
            return HttpResponseForbidden()
        return super().dispatch(request, *args, **kwargs)

    def is_open(self) -> bool:
        """Return whether everybody is let in; ``check --deploy`` warns of that."""
        return self.secret is None and self.networks is None

    def form_invalid(self, form: Any) -> HttpResponse:
        """Answer 400; log which fields were wrong, and why by a code: no text and no number.

        For the views of RapidSMS, which log the whole post.
        """
        wrong = {name: [each.code for each in of] for name, of in form.errors.as_data().items()}
        said = " ".join(f"{name}={','.join(map(str, codes))}" for name, codes in wrong.items())
        logger.error("post_refused view=%s %s", type(self).__name__, said)
        return HttpResponseBadRequest("form failed to validate")

    def _is_near(self, request: HttpRequest) -> bool:
        return _is_within(self._caller(request), self.networks)

    def _caller(self, request: HttpRequest) -> str:
        """Return the caller's address: that of the last machine that is no proxy of ours."""
        caller: str = request.META.get("REMOTE_ADDR") or ""
        forwarded = request.headers.get("X-Forwarded-For", "")
        hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
        while hops and _is_within(caller, self.trusted_proxies):
            caller = hops.pop()
        return caller

    def _knows_secret(self, request: HttpRequest) -> bool:
        accepted = [secret.encode() for secret in _several(self.secret)]
        return any(compare_digest(given, known) for given in _given(request) for known in accepted)


def _given(request: HttpRequest) -> Iterator[bytes]:
    """Yield what a request gives as the secret, in bytes as they came."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip().encode("latin-1", "replace")
    if (value := request.headers.get(SECRET_HEADER)) is not None:
        yield value.strip().encode("latin-1", "replace")
    for parameters in (request.GET, request.POST):
        for value in parameters.getlist(SECRET_PARAMETER):
            yield value.encode("utf-8", "replace")


def _several(value: Any) -> list[Any]:
    """Return one value, or several, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _is_within(address: str, networks: Any) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket has no address; a header may say anything
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:  # a socket that takes IPv4 and IPv6
        ip = ip.ipv4_mapped
    return any(ip in _network(text) for text in _several(networks))


def _network(text: str) -> Network:
    # "10.1.2.3/16" means 10.1.0.0/16
    return ip_network(text, strict=False)


def _check(view: type, name: str, value: Any) -> None:
    """Check one argument of a view; the error tells the kind of a wrong value, never a secret.

    :raises ImproperlyConfigured: for a value that would let in nobody, or anybody.
    """

    def refuse(what: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"{view.__name__}.as_view(): {name} is {what}. Give one string or a list of strings,"
            " or leave the argument out."
        )

    if not isinstance(value, (str, list, tuple, set, frozenset)):
        raise refuse(f"of type {type(value).__name__}")
    several = _several(value)
    if not several:
        raise refuse(f"an empty {type(value).__name__}")
    for each in several:
        if not isinstance(each, str):
            raise refuse(f"a {type(value).__name__} with a {type(each).__name__}")
        if not each.strip():
            raise refuse("an empty string, or has one")
        if name == "secret":
            if each != each.strip():
                raise refuse("a string that begins or ends with white space, or has one")
            continue
        try:
            _network(each)
        except ValueError:
            raise refuse(
                f"{each!r}, or has it, which is no network such as '10.1.0.0/16'"
            ) from None
