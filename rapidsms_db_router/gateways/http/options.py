"""The options of the HTTP backend, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error

from rapidsms_db_router.gateways.http.paths import EACH, is_path
from rapidsms_db_router.gateways.outgoing import NUMBER, is_url

#: What a field may name.
NAMES = ("identity", "identities", "text", "message_id", "coding")
#: What ``{coding}`` stands for: for a text of the GSM alphabet, and for any other.
CODINGS = ("GSM", "Unicode")
PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: Where the fields of a request stand.
PLACES = ("query", "form", "json")
METHODS = ("GET", "POST", "PUT")
#: Ways to write a number: as it is stored, with a plus sign, or digits alone.
NUMBERS = ("stored", "plus", "digits")
#: Numbers of fewer digits are short codes: they have no country, and no plus sign.
SHORT = 7
#: The name of a header (RFC 9110, 5.6.2).
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Options whose words errors name: paths into answers, and what gateways say in them.
HARMLESS = frozenset(
    {
        *("method", "separator", "numbers", "codings"),
        *("success", "permanent", "later", "id", "recipients", "number"),
    }
)
MAPPINGS = ("success", "permanent", "later")
KNOWN = {
    *("engine", "url", "method", *PLACES, "headers", "auth", "separator", "numbers", "codings"),
    *(*MAPPINGS, "id", "recipients", "number"),
}


def check(name: str, given: Mapping[str, Any]) -> list[CheckMessage]:
    """Check the options of one backend.

    :param name: the backend's name in ``INSTALLED_BACKENDS``.
    :param given: its options, with keys in lower case.
    """
    return [
        Error(
            f"Backend {name!r}: {key!r} {problem}.",
            hint="docs/howto/http.rst has an example for each option.",
            id="rapidsms_db_router.E016",
        )
        for key, problem in wrong(given)
    ]


def wrong(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key with a wrong value, and what is wrong; secrets are not repeated."""
    yield from _wrong_request(given)
    yield from _wrong_answer(given)
    for key in given:
        if key not in KNOWN and not key.startswith("router."):
            yield key, f"is no option; there are: {', '.join(sorted(KNOWN))}"


def placeholders(fields: Any) -> set[str]:
    """Return the names that fields hold, however deep they stand."""
    if isinstance(fields, str):
        return set(PLACEHOLDER.findall(fields))
    if isinstance(fields, Mapping):
        fields = fields.values()
    if isinstance(fields, (list, tuple)) or hasattr(fields, "__iter__"):
        return {name for each in fields for name in placeholders(each)}
    return set()


def written(number: str, way: str) -> str:
    """Return a number as it is to be written; what is no number stays as it is.

    :param way: one of :data:`NUMBERS`.
    """
    if way == "stored" or not NUMBER.fullmatch(number):
        return number
    bare = number.lstrip("+")
    return f"+{bare}" if way == "plus" and len(bare) >= SHORT else bare


def _wrong_request(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not is_url(given.get("url")):
        yield "url", "has to be a URL that begins with http:// or https://, without a password"
    if given.get("method", "POST") not in METHODS:
        yield "method", f"is {given['method']!r}; it is one of {', '.join(METHODS)}"
    places = [place for place in PLACES if place in given]
    if not places:
        yield "json", "is missing: set the fields of a request as 'json', 'form' or 'query'"
    if "json" in places and "form" in places:
        yield "form", "cannot be set together with 'json'"
    if given.get("method") == "GET" and {"json", "form"} & set(places):
        yield "method", "is 'GET', which has no room for 'json' or 'form': set 'query'"
    named: set[str] = set()
    for place in places:
        if not isinstance(given[place], Mapping):
            yield place, f"is a {type(given[place]).__name__}, and has to be a dictionary"
            continue
        found = placeholders(given[place])
        named |= found
        for name in sorted(found - set(NAMES)):
            yield place, f"names {{{name}}}; there are: {', '.join(NAMES)}"
    if places and not {"identity", "identities"} & named:
        yield places[0], "names neither {identity} nor {identities}: nobody would be sent anything"
    if places and "text" not in named:
        yield places[0], "does not name {text}"
    headers = given.get("headers", {})
    if not _is_strings(headers):
        yield "headers", "has to be a dictionary of names of headers and strings of one line"
    auth = given.get("auth")
    if auth is not None and not (
        isinstance(auth, (list, tuple)) and len(auth) == 2 and all(isinstance(a, str) for a in auth)
    ):
        yield "auth", "has to be a user name and a password"
    if given.get("numbers", "stored") not in NUMBERS:
        yield "numbers", f"is {given['numbers']!r}; it is one of {', '.join(NUMBERS)}"
    codings = given.get("codings", CODINGS)
    if not (isinstance(codings, (list, tuple)) and len(codings) == len(CODINGS)):
        yield "codings", "has to be two words: for a text of the GSM alphabet, and for any other"
    separator = given.get("separator", ",")
    if not isinstance(separator, str) or not separator or re.search(r"[0-9+]", separator):
        yield "separator", f"is {separator!r}; it is a string without digits and plus signs"


def _wrong_answer(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in MAPPINGS:
        if key in given:
            yield from ((key, problem) for problem in _wrong_mapping(given[key]))
    for key in ("id", "recipients", "number"):
        if key in given and not is_path(given[key]):
            yield key, f"is {given[key]!r}, and has to be a path such as 'messages.0.id'"
    if is_path(given.get("number")) and EACH in given["number"]:
        yield "number", f"is {given['number']!r}; each recipient has one number"
    if is_path(given.get("recipients")) and EACH in given["recipients"].removesuffix(EACH):
        yield "recipients", f"is {given['recipients']!r}, which leads to several lists"
    if ("recipients" in given) != ("number" in given):
        yield "number", "and 'recipients' are set together: a list, and the number in each item"
    several = {"identities"} & placeholders([given.get(place, {}) for place in PLACES])
    if several and "recipients" not in given and any(given.get(key) for key in MAPPINGS):
        yield "recipients", "is missing: several recipients a call, and one answer for all of them"


def _wrong_mapping(paths: Any) -> Iterator[str]:
    """Yield what is wrong with the accepted values by path."""
    if not isinstance(paths, Mapping) or not paths or not all(map(is_path, paths)):
        yield "has to be a dictionary from paths such as 'messages.0.status' to values"
        return
    for path, values in paths.items():
        several = values if isinstance(values, (list, tuple, set)) else [values]
        if not several:
            yield f"has no value for {path!r}"
        for value in several:
            if not isinstance(value, (str, int, float, type(None))):
                yield f"has a {type(value).__name__} for {path!r}, which is no value"


def _is_strings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and HEADER.fullmatch(name)
        and isinstance(each, str)
        and each.isascii()
        and each.isprintable()
        for name, each in value.items()
    )
