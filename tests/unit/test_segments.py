"""How many SMS a text takes."""

import pytest

from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.segments import Coding


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("é" * 160, 1),
        ("€" * 80, 1),
        ("€" * 81, 2),
        # 153 places, of which a character that takes two leaves one unused
        ("€" * 76 * 2, 2),
        ("€" * 76 * 2 + "€", 3),
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("a" * 69 + "ж", 1),
        ("a" * 70 + "ж", 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),
        ("ç" * 71, 2),  # not in the GSM alphabet, though Ç is
        ("[]{}", 1),
    ],
)
def test_count(text, count):
    assert segments.count(text) == count


@pytest.mark.parametrize(
    ("text", "coding"),
    [
        ("", Coding.GSM),
        ("Ñandú", Coding.UCS2),
        ("Ñandu €{}", Coding.GSM),
        ("Ω", Coding.GSM),
        ("ω", Coding.UCS2),
        ("ç", Coding.UCS2),
        ("`", Coding.UCS2),
        ("\t", Coding.UCS2),
        ("\x1b", Coding.UCS2),
        ("😀", Coding.UCS2),
    ],
)
def test_the_text_decides_about_the_coding(text, coding):
    assert segments.coding_of(text) is coding


@pytest.mark.parametrize(
    ("text", "coding", "count"),
    [
        ("a" * 160, Coding.UCS2, 3),
        ("a" * 70, Coding.UCS2, 1),
        ("ж" * 160, Coding.GSM, 1),
        ("€" * 81, Coding.GSM, 2),
        # as many as a real Kannel sends: 140 octets fit one, 134 each of several
        ("a" * 140, Coding.DATA, 1),
        ("a" * 141, Coding.DATA, 2),
        ("a" * 269, Coding.DATA, 3),
    ],
)
def test_count_in_a_coding_that_is_used_whatever_the_text(text, coding, count):
    assert segments.count(text, coding) == count
