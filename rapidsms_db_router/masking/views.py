"""A text as it is, and as it reads once its escapes are decoded; each character knows its place."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Percent-encoded bytes; bytes and characters as Python and JSON escape them; HTML.
ESCAPE = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+"
    r"|(?:\\x[0-9A-Fa-f]{2})+"
    r"|(?:\\u[0-9A-Fa-f]{4})+"
    r"|\\U[0-9A-Fa-f]{8}"
    r"|\\[\\'\"/nrtbf]"
    r"|&(?:#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});"
)
SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
#: An escaped text may be part of another that is escaped as a whole, and so on.
DEEPEST = 3


class Span(NamedTuple):
    """A part of the text that is to be replaced, and by what."""

    start: int
    end: int
    label: str


class View:
    """A text, and where in the original each of its characters stands.

    :param text: what is read; compared without regard to case, and without NUL (as UTF-16 has it).
    :param places: start and end of each character's original.
    """

    def __init__(self, text: str, places: Sequence[tuple[int, int]]) -> None:
        if "\0" in text:
            places = [
                place for character, place in zip(text, places, strict=True) if character != "\0"
            ]
            text = text.replace("\0", "")
        self.text = text
        self.folded = fold(text)
        self._places = places

    def span(self, start: int, end: int, label: str) -> Span:
        """Return where a part of this view stands in the original."""
        return Span(self._places[start][0], self._places[end - 1][1], label)

    def with_blanks(self) -> View | None:
        """Return this view with a blank for each ``+``; ``None`` if it has none."""
        if "+" not in self.text:
            return None
        return View(self.text.replace("+", " "), self._places)

    def decoded(self) -> View | None:
        """Return this view with its escapes decoded; ``None`` if it has none."""
        parts: list[str] = []
        places: list[tuple[int, int]] = []
        end = 0
        for found in ESCAPE.finditer(self.text):
            characters = _decode(found[0])
            place = self._places[found.start()][0], self._places[found.end() - 1][1]
            parts += [self.text[end : found.start()], characters]
            places += self._places[end : found.start()]
            places += [place] * len(characters)
            end = found.end()
        if not end:
            return None
        return View("".join([*parts, self.text[end:]]), [*places, *self._places[end:]])


def views(said: str) -> Iterator[View]:
    """Yield a text as it is, and as it reads once decoded; with ``+`` as a blank, too."""
    yield from _views(View(said, [(place, place + 1) for place in range(len(said))]), DEEPEST)


def _views(view: View, depth: int) -> Iterator[View]:
    for each in (view, view.with_blanks()):
        if each is None:
            continue
        yield each
        decoded = each.decoded() if depth else None
        if decoded is not None:
            yield from _views(decoded, depth - 1)


def fold(text: str) -> str:
    """Return ``text`` in lower case, character by character: its length stays."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := each.lower()) == 1 else each for each in text)


def _decode(escape: str) -> str:
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "\\" and escape[1] not in "xuU":
        return SIMPLE.get(escape[1], escape[1])
    if escape[:2] == "\\U":
        code = int(escape[2:], 16)
        return chr(code) if code < 0x110000 else escape
    if escape[:2] == "\\u":
        return bytes.fromhex(escape.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
    octets = bytes.fromhex(re.sub(r"%|\\x", "", escape))
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")
