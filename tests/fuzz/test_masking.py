"""What is planted into an error never survives, however it is encoded; masking never raises."""

from __future__ import annotations

import base64
import json
import re
from html import escape
from urllib.parse import quote, quote_plus

from django.test import override_settings
from hypothesis import assume, given
from hypothesis import strategies as st

from rapidsms_db_router.masking import UNREADABLE, describe, mask

#: What repeats a value with other characters in place of some; one may be within another.
ESCAPES = (
    str,
    quote,
    quote_plus,
    lambda value: quote(value, safe=""),
    lambda value: "".join(f"%{octet:02x}" for octet in value.encode()),
    repr,
    lambda value: repr(value.encode()),
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False),
    escape,
)
#: What writes all of it in another way.
WHOLE = (
    str,
    lambda value: "".join(each.upper() if each.isascii() else each for each in value),
    lambda value: value.encode().hex(),
    lambda value: value.encode("utf-16-be").hex().upper(),
    lambda value: base64.b64encode(value.encode()).decode(),
    lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    lambda value: base64.urlsafe_b64encode(f"u:{value}".encode()).decode(),
)
encodings = st.lists(st.sampled_from(ESCAPES), min_size=1, max_size=2) | st.tuples(
    st.sampled_from(WHOLE), st.sampled_from(ESCAPES)
)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
values = st.text(characters, min_size=6, max_size=40).filter(lambda each: len(each.strip()) > 5)
names = st.sampled_from(["password", "x", "headers", "Authorization", "params"])
numbers = st.from_regex(r"\A\+[1-9][0-9]{8,13}\Z")
around = st.text(characters, max_size=60)


def planted(value, encoded_by, before, after):
    """Return an error that repeats a value, and the value as it stands there."""
    encoded = value
    for encode in encoded_by:
        encoded = encode(encoded)
    return f"{before} {encoded} {after}", encoded


def survives(encoded, said):
    """Return whether three quarters of a value are still there, in one piece."""
    said = re.sub(r"\[(secret|text|number|row)\]", "\0", said)
    size = max(len(encoded) * 3 // 4, 6)
    return any(encoded[at : at + size] in said for at in range(len(encoded) - size + 1))


@given(values, names, encodings, around, around)
def test_a_secret_never_survives(secret, name, encoded_by, before, after):
    said, encoded = planted(secret.strip(), encoded_by, before, after)
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": "x.Y", "o": {name: secret}}}):
        masked = mask(said)
    assert masked != UNREADABLE
    assert not survives(encoded, masked)


@given(st.text(characters, min_size=12, max_size=200), encodings, around, around)
def test_a_text_never_survives(text, encoded_by, before, after):
    assume(re.search(r"\w", text))
    said, encoded = planted(text, encoded_by, before, after)
    assert not survives(encoded, mask(said, texts=[text]))


@given(numbers, st.lists(st.sampled_from(["", "", "", " ", "-", ".", ") "])), around, around)
def test_a_number_never_survives(number, separators, before, after):
    separators += [""] * len(number)
    spaced = "".join(
        digit + separator for digit, separator in zip(number, separators, strict=False)
    )
    masked = mask(f"{before}{spaced}{after}", identities=["+256772000001", number])
    assert spaced not in masked and number not in re.sub(r"[^0-9+]", "", masked)


anything = st.text() | st.text(st.sampled_from("?=:/@%+&#\\'\"x0 \n<token>bearer")) | st.none()


@given(anything, st.lists(anything), st.lists(anything), st.dictionaries(st.text(), anything))
def test_masking_never_raises(said, texts, identities, options):
    with override_settings(INSTALLED_BACKENDS={"phones": options}):
        if said is not None:
            assert mask(said, texts=texts, identities=identities) != UNREADABLE
        described = describe(ValueError(said), texts=texts, identities=identities)
    assert isinstance(described, str)
