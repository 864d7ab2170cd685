"""How many SMS a text takes: gateways and networks count those, not texts (3GPP TS 23.038)."""

from __future__ import annotations

from enum import IntEnum

#: The basic characters of the GSM 7-bit alphabet, and those that take two.
BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")
GSM_ALPHABET = BASIC | EXTENDED


class Coding(IntEnum):
    """How a text is written into an SMS; the numbers are Kannel's ``coding``."""

    #: 7 bits a character of the GSM alphabet.
    GSM = 0
    #: 8 bits: octets that nobody translates.
    DATA = 1
    #: 16 bits a character, as in UTF-16.
    UCS2 = 2


#: What fits one SMS alone, and each of several that belong together: in 7-bit characters, in
#: octets, and in the 16-bit units of UCS-2.
ROOM: dict[int, tuple[int, int]] = {
    Coding.GSM: (160, 153),
    Coding.DATA: (140, 134),
    Coding.UCS2: (70, 67),
}


def coding_of(text: str) -> Coding:
    """Return the coding that holds a text exactly, in the fewest segments."""
    return Coding.GSM if GSM_ALPHABET.issuperset(text) else Coding.UCS2


def count(text: str, coding: int | None = None) -> int:
    """Return how many SMS segments a text takes: at least one.

    :param coding: the coding that is used whatever the text; else :func:`coding_of` the text.
    """
    if coding is None:
        coding = coding_of(text)
    if coding == Coding.GSM:
        widths = [1 + (char in EXTENDED) for char in text]
    elif coding == Coding.DATA:  # in UTF-8, which takes no fewer than other charsets of octets
        widths = [len(char.encode("utf-8", "replace")) for char in text]
    else:
        widths = [1 + (char > "\uffff") for char in text]
    alone, joined = ROOM[coding]
    if sum(widths) <= alone:
        return 1
    segments, room = 1, joined
    for width in widths:  # no character is divided between two
        if width > room:
            segments, room = segments + 1, joined
        room -= width
    return segments
