"""How many SMS a text takes: gateways and networks count those, not texts (3GPP TS 23.038)."""

from __future__ import annotations

#: The basic characters of the GSM 7-bit alphabet, and those that take two.
BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = frozenset("\f^{}\\[~]|€")
#: What fits one SMS alone, and each of several that belong together: in 7-bit characters, and in
#: the 16-bit units of UCS-2.
GSM_ALONE, GSM_JOINED = 160, 153
UCS_ALONE, UCS_JOINED = 70, 67


def count(text: str) -> int:
    """Return how many SMS segments a text takes: at least one."""
    if BASIC.issuperset(text) or (BASIC | EXTENDED).issuperset(text):
        widths, alone, joined = [1 + (char in EXTENDED) for char in text], GSM_ALONE, GSM_JOINED
    else:
        widths, alone, joined = [1 + (char > "\uffff") for char in text], UCS_ALONE, UCS_JOINED
    if sum(widths) <= alone:
        return 1
    segments, room = 1, joined
    for width in widths:  # no character is divided between two
        if width > room:
            segments, room = segments + 1, joined
        room -= width
    return segments
