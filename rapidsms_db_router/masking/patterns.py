"""What looks like a secret or a telephone number, whoever said it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rapidsms_db_router.masking.needles import NUMBER, SECRET, TEXT
from rapidsms_db_router.masking.views import Span, View

#: Names of what is secret: of an option, a parameter, a header.
SECRET_NAME = r"pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|key|auth\w{0,12}|signature|pin"  # noqa: S105

#: The user and password of an address; a password may have a "/" in it.
USERINFO = re.compile(r"://([^\s/?#@\"'<>]+)@")
ODD_USERINFO = re.compile(r"://([^\s/?#@:\"'<>]*:(?![0-9]{1,5}[/?#])[^\s@\"'<>]{0,200})@")
#: The query, and the fragment of an address that has one.
QUERY = re.compile(r"\?([^\s\"'<>=?]{0,200}=[^\s\"'<>]*)")
FRAGMENT = re.compile(r"://[^\s\"'<>#?]{0,300}#([^\s\"'<>]+)")
#: "password=x", "'token': 'x'", "X-Api-Key: x".
NAMED = re.compile(
    rf"(?:{SECRET_NAME})s?[0-9]?[\"']?\s{{0,3}}[=:]\s{{0,3}}"
    r"(?:[bru]?'((?:[^'\\\n]|\\.){1,1000})'|[bru]?\"((?:[^\"\\\n]|\\.){1,1000})\""
    r"|(?:[bru]?[\"'])?((?:(?:basic|bearer|digest|token|app)\s+)?[^\s&,;\"'()<>\[\]{}]+))",
    re.I,
)
#: A credential as HTTP has it.
SCHEME = re.compile(r"\b(?:basic|bearer|digest)\s+([A-Za-z0-9+/=._~-]{16,})", re.I)
#: What databases quote of a row.
ROW = re.compile(
    r"Failing row contains \((.*)\)"
    r"|Key \([^)\n]*\)=\((.*?)\) "
    r"|Duplicate entry '(.*)' for key"
    r"|invalid input syntax for [^:\n]*: \"(.*)\""
)
#: The beginning of the text, at the end of a receipt (SMPP 3.4, appendix B).
RECEIPT = re.compile(r"\berr:\S* text:(.+)", re.I)
#: Nine digits are no date and no primary key; fifteen are the most of a telephone number.
PHONE = re.compile(r"((?<![\w.])\+?[0-9]{9,15}(?!\w)|\+[0-9](?:[\s().-]{0,2}[0-9]){6,14})")

PATTERNS = (
    (USERINFO, SECRET),
    (ODD_USERINFO, SECRET),
    (QUERY, SECRET),
    (FRAGMENT, SECRET),
    (NAMED, SECRET),
    (SCHEME, SECRET),
    (ROW, "[row]"),
    (RECEIPT, TEXT),
    (PHONE, NUMBER),
)


def find(view: View) -> Iterator[Span]:
    """Yield where a view has what looks like a secret or a telephone number."""
    for pattern, label in PATTERNS:
        for found in pattern.finditer(view.text):
            group = found.lastindex
            if group and found.end(group) > found.start(group):
                yield view.span(*found.span(group), label)
