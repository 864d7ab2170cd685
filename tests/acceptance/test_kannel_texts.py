"""Through a real Kannel, octet by octet: what phones get, what they text, and what is reported."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rapidsms.models import Connection
from rapidsms.router import lookup_connections, send

from rapidsms_db_router.errors import PermanentSendingError
from rapidsms_db_router.gateways.kannel import KannelBackend
from rapidsms_db_router.models import Message, Transmission
from tests.acceptance.centre import KannelAtCentre, kannel_at_centre
from tests.acceptance.running import PATIENCE, wait_for
from tests.acceptance.smpp import GSM, OK, REJECTED, UCS2, Part

PHONE = "+256772000001"
#: 3GPP TS 23.038, 6.2.1: the default alphabet and its extension table.
ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = dict(zip("\f^{}\\[~]|€", b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", strict=True))

TEXTS = {
    "empty": "",
    "english": "Your appointment is on Monday, 9:30.",
    "alphabet": ALPHABET.replace("\x1b", ""),
    "extension": "^{}\\[~]|€\f",
    "spanish": "Ñandú",
    "euro": "100 € [=~]",
    "200 é": "é" * 200,
    "french": "Ça a coûté 5 €, où êtes-vous ?",
    "german": "Größe: 5 Äpfel, süß",
    "swahili": "Ng'ombe wetu ni wagonjwa",
    "turkish": "Şişli'de ığdır çiğ",  # noqa: RUF001
    "polish": "Zażółć gęślą jaźń",
    "vietnamese": "Tiếng Việt có dấu",
    "greek": "Ξεσκεπάζω τὴν ψυχοφθόρα",
    "russian": "Съешь же ещё этих мягких булок",
    "arabic": "نص حكيم له سر قاطع",
    "hebrew": "דג סקרן שט בים",
    "amharic": "ሰላም ዓለም",
    "hindi": "ऋषियों को सताने वाले",
    "bengali": "আমি বাংলায় গান গাই",
    "tamil": "வணக்கம் உலகம்",
    "thai": "เป็นมนุษย์สุดประเสริฐ",
    "khmer": "សួស្តី​ពិភពលោក",
    "burmese": "မင်္ဂလာပါ ကမ္ဘာလောက",
    "georgian": "გამარჯობა მსოფლიო",
    "chinese": "我能吞下玻璃而不伤身体",
    "japanese": "いろはにほへと チリヌルヲ",
    "korean": "안녕하세요 세계",
    "emoji": "👍🏽 ok 👨‍👩‍👧",
    "long": "0123456789" * 30,
    "long, extended": "€" * 200,
    "long, accented": "çé" * 100,
    "long, emoji": "👍" * 100,
    "blanks": "  two lines\r\n\tand a tab \n",
    "percent": "100% & more + less = ?#%41",
    "ten parts": "x" * 1530,
}


def octets(text: str) -> tuple[int, bytes]:
    """Return how a phone gets a text: its coding and its octets."""
    written = b""
    for char in text:
        if char in EXTENSION:
            written += bytes((0x1B, EXTENSION[char]))
        elif char in ALPHABET and char != "\x1b":
            written += bytes((ALPHABET.index(char),))
        else:
            return UCS2, text.encode("utf-16-be")
    return GSM, written


def divided(coding: int, written: bytes) -> list[bytes]:
    """Return the octets of each part of a text, as a phone divides it."""
    alone, joined = (160, 153) if coding == GSM else (140, 134)
    if len(written) <= alone:
        return [written]
    parts = []
    while written:
        size = joined
        if coding == GSM and written[:size].endswith(b"\x1b"):
            size -= 1
        parts.append(written[:size])
        written = written[size:]
    return parts


@pytest.fixture(scope="module")
def kannel(live_server: Any) -> Iterator[KannelAtCentre]:
    """A Kannel that runs, for all tests of this module."""
    with kannel_at_centre(live_server.url) as kannel:
        yield kannel


@pytest.fixture(autouse=True)
def logs(kannel: KannelAtCentre) -> None:
    """There is no project of its own."""
    kannel.centre.parts.clear()
    kannel.centre.answer = lambda part: OK


@pytest.fixture
def backend(kannel: KannelAtCentre) -> KannelBackend:
    """The backend, without a router."""
    options = kannel.options("")
    return KannelBackend(None, "phones", **options)


@pytest.fixture
def person(
    transactional_db: None, settings: Any, live_server: Any, kannel: KannelAtCentre
) -> Connection:
    """Somebody who is sent messages through Kannel, and whose web server is told what became."""
    settings.INSTALLED_BACKENDS = {"phones": kannel.options(live_server.url)}
    return lookup_connections("phones", [PHONE])[0]


def wait_for_texts(kannel: KannelAtCentre, count: int) -> list[tuple[str, int, bytes]]:
    def enough() -> list[tuple[str, int, bytes]] | None:
        received = kannel.centre.received()
        return received if len(received) >= count else None

    return wait_for(f"{count} texts", enough)


def test_a_phone_gets_every_text_octet_by_octet(
    kannel: KannelAtCentre, backend: KannelBackend
) -> None:
    phones = {f"+2567720{number:05}": text for number, text in enumerate(TEXTS.values())}
    for phone, text in phones.items():
        backend.send(1, text, [phone])
    received = {phone: of for phone, *of in wait_for_texts(kannel, len(phones))}
    for name, (phone, text) in zip(TEXTS, phones.items(), strict=True):
        assert tuple(received[phone]) == octets(text), name
    assert len(kannel.centre.received()) == len(phones)


def test_a_phone_gets_no_part_of_a_text_that_is_too_long(
    kannel: KannelAtCentre, backend: KannelBackend
) -> None:
    with pytest.raises(PermanentSendingError, match=r"takes 11 SMS, and 'max_parts' is 10"):
        backend.send(1, "x" * 1600, [PHONE])
    backend.send(2, "next", [PHONE])
    assert wait_for_texts(kannel, 1) == [(PHONE, *octets("next"))]


def test_every_text_of_a_phone_is_stored_as_it_was_texted(
    kannel: KannelAtCentre, person: Connection
) -> None:
    for text in TEXTS.values():
        coding, written = octets(text)
        kannel.centre.text(PHONE, "100", coding, *divided(coding, written))

    def stored() -> list[str] | None:
        found = list(Message.objects.filter(direction="I").values_list("text", flat=True))
        return found if len(found) >= len(TEXTS) else None

    assert sorted(wait_for("all texts", stored)) == sorted(TEXTS.values())


def status() -> str:
    return Transmission.objects.get(message__direction="O").status


def test_a_message_is_delivered_once_the_centre_says_so(
    kannel: KannelAtCentre, person: Connection
) -> None:
    send("Ñandú", [person])
    (part,) = wait_for("the message", lambda: kannel.centre.parts)
    assert part.wants_receipt
    assert status() == "S"
    kannel.centre.report(part)
    wait_for("the report", lambda: status() == "D")


@pytest.mark.parametrize("delivered_first", [False, True])
def test_a_message_of_which_a_part_was_refused_is_errored(
    kannel: KannelAtCentre, person: Connection, delivered_first: bool
) -> None:
    """Kannel says that the first part was delivered, and that the message was rejected."""

    reported = threading.Event()

    def answer(part: Part) -> int:
        if part.number != 2:
            return OK
        reported.wait(PATIENCE if delivered_first else 0)
        return REJECTED

    kannel.centre.answer = answer
    send("x" * 400, [person])
    if delivered_first:
        (first,) = wait_for("the first part", lambda: kannel.centre.parts)
        kannel.centre.report(first)
        wait_for("its report", lambda: status() == "D")
        reported.set()
    wait_for("the refusal", lambda: status() == "E")
    if not delivered_first:
        first, third = kannel.centre.parts
        assert first.wants_receipt
        kannel.centre.report(first)
        kannel.centre.report(third)
    # a later report has been followed by then
    send("next", [person])
    wait_for("the next message", lambda: len(kannel.centre.parts) == 3)
    kannel.centre.report(kannel.centre.parts[-1])
    rows = Transmission.objects.filter(message__direction="O").order_by("pk")
    wait_for("its report", lambda: rows.filter(status="D").exists())
    assert [row.status for row in rows] == ["E", "D"]
