"""What is known not to be repeated, and how it is found in a text."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from rapidsms_db_router.masking.views import Span, View, fold

SECRET, TEXT, NUMBER = "[secret]", "[text]", "[number]"
#: A part of a secret, of a text, or of a telephone number that is as long as this is found, too.
PART_OF_SECRET, PART_OF_TEXT, PART_OF_NUMBER = 8, 12, 7
#: A secret or text that is shorter than this is found as a whole word only.
SHORT = 4
#: The characters of one text that are looked for.
LONGEST_TEXT = 5000
#: Digits with what people put between them.
DIGITS = re.compile(r"\+?[0-9](?:[\s().\-/]{0,2}[0-9]){6,}")
#: What stands between quotes, or after a colon: where an exception repeats its argument.
REPEATED = re.compile(r"(?:[^'\"\n:]|:(?! ))+")


class Needles:
    """Values that are not to be repeated.

    :param values: the values.
    :param part: parts as long as this are found, too.
    :param label: what replaces them.
    """

    def __init__(self, values: Iterable[str], part: int, label: str) -> None:
        self._part, self._label = part, label
        self._parts: set[str] = set()
        short = set()
        for value in values:
            for form in _forms(value):
                if len(form) >= part:
                    self._parts.update(form[at : at + part] for at in range(len(form) - part + 1))
                elif form:
                    short.add(form)
        self._short = _any_of(short)

    def find(self, view: View) -> Iterator[Span]:
        """Yield where a view repeats a value."""
        folded, part = view.folded, self._part
        if self._parts:
            for at in range(len(folded) - part + 1):
                if folded[at : at + part] in self._parts:
                    yield view.span(at, at + part, self._label)
        if self._short is not None:
            for found in self._short.finditer(folded):
                yield view.span(*found.span(), self._label)


class Texts:
    """Texts of messages: a part of one is found if it is long, or stands alone."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._needles = Needles(texts, PART_OF_TEXT, TEXT)
        self._words = [_words(text) for text in texts]

    @staticmethod
    @lru_cache(maxsize=8)
    def of(texts: tuple[str, ...]) -> Texts:
        """Return what finds these texts; a broadcast has the same one in many errors."""
        return Texts(tuple(str(text)[:LONGEST_TEXT] for text in texts))

    def find(self, view: View) -> Iterator[Span]:
        """Yield where a view repeats a text."""
        yield from self._needles.find(view)
        if not any(self._words):
            return
        for found in REPEATED.finditer(view.text):
            words = _words(found[0])
            if words and any(words in each for each in self._words):
                yield view.span(*found.span(), TEXT)


class Numbers:
    """Identities: telephone numbers in any notation, and names."""

    def __init__(self, identities: tuple[str, ...]) -> None:
        self._windows: set[str] = set()
        names = set()
        for identity in map(str, identities):
            digits = re.sub(r"[^0-9]", "", identity)
            if len(digits) < PART_OF_NUMBER:
                names.add(identity)
                continue
            self._windows.update(_windows(digits))
        self._names = Needles(names, max([SHORT, *map(len, names)]), NUMBER) if names else None

    @staticmethod
    @lru_cache(maxsize=8)
    def of(identities: tuple[str, ...]) -> Numbers:
        """Return what finds these identities; a call may fail each recipient by an error."""
        return Numbers(identities)

    def find(self, view: View) -> Iterator[Span]:
        """Yield where a view repeats an identity."""
        if self._names is not None:
            yield from self._names.find(view)
        if not self._windows:
            return
        for found in DIGITS.finditer(view.text):
            digits = re.sub(r"[^0-9]", "", found[0])
            if not self._windows.isdisjoint(_windows(digits)):
                yield view.span(*found.span(), NUMBER)


def _forms(value: str) -> Iterator[str]:
    """Yield a value and what encodings make of it that no view decodes."""
    value = value.replace("\0", "")
    yield fold(value)
    if len(value) < SHORT:
        return
    for encoding in ("utf-8", "utf-16-be"):
        yield value.encode(encoding, "replace").hex()
    octets = value.encode("utf-8", "replace")
    # in base64 a value looks in three ways, by what stands before it: "user:" before a password
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + octets).decode()
        first = (before * 8 + 5) // 6
        last = (before + len(octets)) * 8 // 6
        core = fold(encoded[first:last])
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _any_of(values: set[str]) -> re.Pattern[str] | None:
    """Return a pattern for any of these values; the short ones as whole words."""
    if not values:
        return None
    patterns = [
        re.escape(value) if len(value) >= SHORT else rf"(?<!\w){re.escape(value)}(?!\w)"
        for value in sorted(values, key=len, reverse=True)
    ]
    return re.compile("|".join(patterns))


def _words(text: str) -> str:
    """Return the words of a text, each with a blank before and after it."""
    words = re.findall(r"\w+", fold(text))
    return f" {' '.join(words)} " if words else ""


def _windows(digits: str) -> set[str]:
    last = len(digits) - PART_OF_NUMBER
    return {digits[at : at + PART_OF_NUMBER] for at in range(last + 1)}
