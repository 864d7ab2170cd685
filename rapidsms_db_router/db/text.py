"""Makes any text and any value fit for every supported database."""

from __future__ import annotations

import math
import re
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: PostgreSQL cannot hold NUL, and no UTF-8 column can hold half a surrogate pair.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
#: What programs write where they have no id.
NO_ID = re.compile(
    r"[\W_0]*(none|null|nil|undefined|nan|true|false|n/?a|unknown|empty|unset|missing"
    r"|not[\W_]?(available|set)|no[\W_]?id|object object)?[\W_]*"
    # of a 32-bit integer that was not set; of a template that nobody has filled in
    r"|-1|%\w%?|%[a-z_]+%|\$?\{+[a-z_. ]+\}+|\$[a-z_.]+|<%?=?[a-z_. ]+%?>",
    re.IGNORECASE,
)
#: More of an error than this helps nobody.
LONGEST_ERROR = 10_000
BEYOND_BMP = re.compile("[^\x00-\uffff]")
#: What is nested deeper than this is stored as its ``str()``: MariaDB's JSON ends at 32 levels.
MAX_DEPTH = 30


def clean_text(text: Any) -> str:
    """Return ``text`` as a string in which what a database cannot hold is U+FFFD."""
    # str.__str__ takes the value of an enumeration's member, where str() may take its name
    as_str = str.__str__(text) if isinstance(text, str) else str(text)
    return UNSTORABLE.sub(REPLACEMENT, as_str)


def narrow_text(text: str) -> str:
    """Return ``text`` with U+FFFD for what MySQL's three-byte ``utf8`` cannot hold, like emoji."""
    return BEYOND_BMP.sub(REPLACEMENT, text)


def as_id(value: Any) -> str:
    """Return the id that a gateway gave as a text.

    :returns: an empty text for what names nothing: ``None``, ``0``, ``False``, blanks, punctuation,
        words such as ``"null"`` and ``"undefined"``, and names that stand in a template, such as
        ``"{id}"``.
    """
    text = clean_text("" if value is None or isinstance(value, bool) else value)
    return "" if NO_ID.fullmatch(text) else text


def shown(value: Any) -> str:
    """Return a value as an error about it names it; its class, where its ``repr()`` raises."""
    try:
        return repr(value)
    except Exception:  # an integer of more than 4,300 digits, a connection without a backend
        return f"<{type(value).__name__}>"


def storable(text: str) -> str:
    """Return an error's text, masked before, as every column can hold it."""
    return narrow_text(clean_text(text))[:LONGEST_ERROR]


def clean_json(value: Any) -> tuple[Any, bool]:
    """Return ``value`` as JSON can say it, and whether anything had to be replaced.

    Dates, times, decimals, UUIDs and lazy strings become the strings Django's JSON encoder makes
    of them; everything else that JSON cannot say becomes its ``str()``.

    :param value: anything.
    :returns: the cleaned value, and ``True`` if something in it was stored as its ``str()`` or
        had characters replaced.
    """
    cleaner = _Cleaner()
    return cleaner.clean(value, 0), cleaner.lossy


class _Cleaner(DjangoJSONEncoder):
    lossy = False

    def clean(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int) and abs(value) < 2**63:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if depth < MAX_DEPTH:
            if isinstance(value, dict):
                return {self._key(key): self.clean(item, depth + 1) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [self.clean(item, depth + 1) for item in value]
        return self._other(value)

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            self.lossy = True
        return self._text(_as_str(key))

    def _text(self, text: str) -> str:
        cleaned = clean_text(text)
        self.lossy = self.lossy or cleaned != text
        return cleaned

    def _other(self, value: Any) -> str:
        try:
            said = self.default(value)
        except Exception:
            said = None  # not one of the types Django's encoder knows
        if isinstance(said, str):
            return self._text(said)
        self.lossy = True
        return clean_text(_as_str(value))


def _as_str(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
