"""The options of the Kannel backend, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.urls import NoReverseMatch, reverse

from rapidsms_db_router.gateways.outgoing import is_url

ID = "rapidsms_db_router."
SENDSMS_URL = "http://127.0.0.1:13013/cgi-bin/sendsms"
#: As many as Kannel's ``max-messages`` in the how-to.
MAX_PARTS = 10
#: Kannel splits a text into no more.
MOST_PARTS = 255
#: Of RapidSMS's backend: the text decides.
UNUSED = ("charset", "coding", "encode_errors")
#: Parameters that the backend sets itself.
OWN = ("to", "text", "coding", "charset")


def check(name: str, given: Mapping[str, Any]) -> list[CheckMessage]:
    """Check the options of one backend.

    :param name: the backend's name in ``INSTALLED_BACKENDS``.
    :param given: its options, with keys in lower case.
    """
    found: list[CheckMessage] = []
    for key, value, kind in wrong(given):
        found.append(
            Error(
                f"Backend {name!r} sets {key!r} to {value!r}, which is not {kind}.",
                hint=f"Set it to {kind}, or remove it.",
                id=ID + "E014",
            )
        )
    if given.get("delivery_report_url"):
        try:
            reverse("kannel-delivery-report")
        except NoReverseMatch:
            found.append(
                Error(
                    f"Backend {name!r} sets 'delivery_report_url', and no URL is named"
                    " 'kannel-delivery-report': nothing can be sent.",
                    hint="Add path('kannel/report/', DeliveryReportView.as_view(),"
                    " name='kannel-delivery-report') to the URLs.",
                    id=ID + "E015",
                )
            )
    unused = sorted(set(UNUSED) & set(given))
    unused += sorted(f"sendsms_params[{key!r}]" for key in set(OWN) & set(_params(given)))
    if unused:
        found.append(
            Warning(
                f"Backend {name!r} sets {', '.join(unused)}, which its engine does not use: it"
                " chooses the coding by the text.",
                hint="Remove it.",
                id=ID + "W015",
            )
        )
    return found


def wrong(given: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield each key that has a wrong value, the value, and what it has to be."""
    url = given.get("sendsms_url", SENDSMS_URL)
    if not is_url(url):
        yield "sendsms_url", url, f"a URL such as {SENDSMS_URL!r}"
    params = given.get("sendsms_params")
    if not isinstance(params, (Mapping, type(None))):
        # its type alone: the value may have a password in it
        yield "sendsms_params", type(params), "a dictionary"
    url = given.get("delivery_report_url")
    if url and not is_url(url):
        yield "delivery_report_url", url, "a URL such as 'http://127.0.0.1:8000'"
    parts = given.get("max_parts", MAX_PARTS)
    if type(parts) is not int or not 1 <= parts <= MOST_PARTS:
        yield "max_parts", parts, f"an integer from 1 to {MOST_PARTS}"


def _params(given: Mapping[str, Any]) -> Mapping[str, Any]:
    params = given.get("sendsms_params")
    return params if isinstance(params, Mapping) else {}
