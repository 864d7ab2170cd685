"""Errors as text: no secret, no number and no text of a message, in whatever encoding."""

from __future__ import annotations

import base64
import json
import re
from html import escape
from urllib.parse import quote, quote_plus

import pytest
import requests
import urllib3

from rapidsms_db_router.gateways.http.options import NAMES
from rapidsms_db_router.gateways.outgoing import NOT_A_NUMBER
from rapidsms_db_router.masking import LONGEST, UNREADABLE, describe, mask
from rapidsms_db_router.masking.secrets import PLACEHOLDER
from rapidsms_db_router.outbound import separators

PASSWORD = "s3c&ret! W\xf6rd/9"
TEXT = "Dear Mother, your appointment is \u2019on\u2019 5/6"
NUMBER = "+256772000001"


@pytest.fixture
def backend(settings):
    """The options of a backend: Kannel's, unless a test changes them."""
    options = {
        "ENGINE": "rapidsms.backends.kannel.KannelBackend",
        "sendsms_url": "http://127.0.0.1:13013/cgi-bin/sendsms",
        "sendsms_params": {"username": "rapidsms", "password": PASSWORD, "from": "100"},
        "router.db.queue": "gateway-queue",
    }
    settings.INSTALLED_BACKENDS = {"phones": options}
    return options


def raised(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


PARAMETERS = {"password": PASSWORD, "to": NUMBER, "text": TEXT}
REFUSED = "http://127.0.0.1:1/cgi-bin/sendsms"


def refused_by_requests():
    requests.get(REFUSED, params=PARAMETERS, timeout=1)


def refused_by_urllib3():
    urllib3.PoolManager(retries=False).request("GET", REFUSED, fields=PARAMETERS, timeout=1)


def unknown_host():
    requests.get("http://no-such-host.invalid/sendsms", params=PARAMETERS, timeout=1)


def forbidden():
    response = requests.Response()
    response.status_code, response.reason = 403, "Forbidden"
    response.url = requests.Request("GET", REFUSED, params=PARAMETERS).prepare().url
    response.raise_for_status()


def invalid_address():
    urllib3.PoolManager().request("GET", f"http://[/?password={PASSWORD}&text={TEXT}")


def chained():
    try:
        raise RuntimeError(f"{PARAMETERS}")
    except RuntimeError as err:
        raise ValueError(f"post to {NUMBER} of {TEXT!r} failed") from err


@pytest.mark.parametrize(
    "fails",
    [refused_by_requests, refused_by_urllib3, unknown_host, forbidden, invalid_address, chained],
)
@pytest.mark.parametrize("with_traceback", [False, True])
def test_errors_of_http_libraries_repeat_nothing(backend, fails, with_traceback):
    error = raised(fails)
    said = describe(error, texts=[TEXT], identities=[NUMBER], with_traceback=with_traceback)
    assert said.startswith(type(error).__name__)
    for wanted in (PASSWORD, TEXT, NUMBER, quote(PASSWORD), quote_plus(TEXT), NUMBER[1:]):
        assert wanted not in said
    assert not with_traceback or "Traceback (most recent call last)" in said


def test_what_an_operator_needs_is_still_there(backend):
    said = describe(raised(forbidden), texts=[TEXT], identities=[NUMBER])
    assert said == (
        "HTTPError: 403 Client Error: Forbidden for url: http://127.0.0.1:1/cgi-bin/sendsms?[secret]"
    )
    plain = (
        "ConnectionError: gateway-queue of rapidsms at 127.0.0.1:13013 from 100, 2026-11-24 19:25"
    )
    assert mask(plain, texts=[TEXT], identities=[NUMBER]) == plain


ENCODINGS = {
    "as it is": str,
    "upper case": str.upper,
    "quote": quote,
    "quote all": lambda value: quote(value, safe=""),
    "quote plus": quote_plus,
    "quoted in an address that is quoted": lambda value: quote(quote_plus(value), safe=""),
    "latin-1": lambda value: quote(value.encode("latin-1", "ignore"), safe=""),
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda value: repr(value.encode()),
    "json": json.dumps,
    "json in json": lambda value: json.dumps(json.dumps(value)),
    "html": escape,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of user:password": lambda value: base64.b64encode(f"rapids:{value}".encode()).decode(),
    "base64 for addresses": lambda value: base64.urlsafe_b64encode(f"x{value}".encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "hex of UCS-2": lambda value: value.encode("utf-16-be").hex().upper(),
}


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("kind", ["secret", "text"])
def test_a_value_is_found_in_every_encoding(backend, kind, encoding):
    value = PASSWORD if kind == "secret" else TEXT
    encoded = encoding(value)
    said = mask(f"before ({encoded}) after", texts=[TEXT])
    assert f"[{kind}]" in said and said.startswith("before (") and said.endswith(") after")
    # of what stands around it the user, in base64, is the longest
    kept = re.sub(r"\[(secret|text)\]", "", said)
    assert len(kept) < len("before () after") + 16


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        ({"password": "ab"}, "ab"),
        ({"PIN": 4711}, "4711"),
        ({"api_key": b"key-of-bytes"}, "key-of-bytes"),
        ({"auth": ("user", "pw1")}, "pw1"),
        ({"whatever": "abcdef"}, "abcdef"),
        ({"deep": {"er": [{"still": "abcdef"}]}}, "abcdef"),
        ({"headers": {"Authorization": "App 0123-4567-89ab"}}, "0123-4567-89ab"),
        ({"headers": {"Authorization": "Bearer abcdef"}}, "abcdef"),
        (
            {"headers": {"Authorization": "Basic " + base64.b64encode(b"u:hidden-pw").decode()}},
            "hidden-pw",
        ),
        ({"body": "key=abcdef&to={identity}"}, "abcdef"),
        ({"url": "https://user:hidden@example.org/"}, "hidden"),
        ({"url": "https://user:hid/den@example.org/"}, "hid/den"),
        ({"url": "https://example.org/?x=hidden"}, "hidden"),
        ({"url": "https://example.org/bot123456:AAbbCC/send"}, "bot123456"),
        ({"url": "https://example.org/ACf00ba4/Messages"}, "ACf00ba4"),
        ({"session": requests.auth.HTTPBasicAuth("u", "hidden")}, "hidden"),
        ({"username": "a-key-that-is-used-as-a-name"}, "a-key-that-is-used-as-a-name"),
    ],
)
def test_what_a_backends_options_hold_is_secret(settings, options, secret):
    settings.INSTALLED_BACKENDS = {"phones": {"ENGINE": "x.Y", **options}}
    said = mask(f"refused: {secret}.")
    assert secret not in said and "[secret]" in said


@pytest.fixture
def declared(settings):
    """A gateway that is declared in settings, as in docs/howto/http.rst."""
    settings.INSTALLED_BACKENDS = {
        "phones": {
            "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
            "url": "https://gateway.example.org/messages",
            "method": "POST",
            "headers": {"apiKey": "hidden-1"},
            "form": {
                "to": "{identities}",
                "one": "{identity}",
                "id": "{message_id}",
                "k": "hidden-2",
            },
            "numbers": "stored",
            "recipients": "data.Recipients",
            "number": "number",
            "id": "messageId",
            "success": {"status": ["Accepted"]},
            "permanent": {"status": ["InvalidPhoneNumber"]},
            "later": {"status": ["InsufficientBalance"]},
        }
    }


@pytest.mark.parametrize(
    "said",
    [
        NOT_A_NUMBER,
        separators.REASON,
        "The gateway answered status='InvalidPhoneNumber'.",
        "The gateway answered status='InsufficientBalance'.",
        "The answer has no 'messageId'.",
        "The answer has no list 'data.Recipients', or an empty one.",
        "no message_id of these identities is stored",
    ],
)
def test_the_reason_of_a_failure_is_readable_whatever_a_backend_declares(declared, said):
    assert mask(said) == said


def test_what_a_declared_request_holds_beside_the_message_is_secret(declared):
    assert mask("key hidden-1, field hidden-2") == "key [secret], field [secret]"


def test_the_placeholders_that_hide_nothing_are_those_of_the_http_backend():
    for name in NAMES:
        assert PLACEHOLDER.fullmatch(f"{{{name}}}")
    assert PLACEHOLDER.fullmatch("{password}") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"CELERY_BROKER_URL": "redis://:hidden-1@127.0.0.1/0"},
        {"CLINIC_API_KEY": "hidden-1"},
        {"CLINIC": {"url": "http://x", "token": "hidden-1"}},
        {"SECRET_KEY": "hidden-1"},
        {"EMAIL_HOST_PASSWORD": "hidden-1"},
    ],
)
# deprecated since Django 6.1, and as secret as before
@pytest.mark.filterwarnings("ignore:The EMAIL_HOST_PASSWORD setting")
def test_the_secrets_of_other_settings_are_masked_too(settings, changes):
    for name, value in changes.items():
        setattr(settings, name, value)
    assert mask("an app said hidden-1") == "an app said [secret]"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("http://u:p@h:1/x?a=b", "http://[secret]@h:1/x?[secret]"),
        ("http://u:p/w@h/x", "http://[secret]@h/x"),
        ("http://h:8080/x@y", "http://h:8080/x@y"),
        ("https://h/cb#access_token=abc", "https://h/cb#[secret]"),
        ("with url: /sendsms?a=b (Caused by X)", "with url: /sendsms?[secret] (Caused by X)"),
        ("What? 1 = 1", "What? 1 = 1"),
        ("{'password': 'abc'}", "{'password': '[secret]'}"),
        ("{'password': 'a&b c\\'d', 'x': 1}", "{'password': '[secret]', 'x': 1}"),
        ("token='abc", "token='[secret]"),
        ('"apiKey":"abc"', '"apiKey":"[secret]"'),
        ("access_token=abc&x=1", "access_token=[secret]&x=1"),
        ("Authorization: Bearer abc", "Authorization: [secret]"),
        ("KeyError: 'age'", "KeyError: 'age'"),
        ("no +256 772 000-001 here", "no [number] here"),
        ("no 256772000001 here", "no [number] here"),
        ("at 2026-11-24 19:25:08.123456", "at 2026-11-24 19:25:08.123456"),
        ("line 1234567 of 12345678", "line 1234567 of 12345678"),
        ("object at 0x7f6712345678", "object at 0x7f6712345678"),
        ("Failing row contains (12, Hello, (x)).", "Failing row contains ([row])."),
        ("Key (identity)=(ann) already exists.", "Key (identity)=([row]) already exists."),
        ("Duplicate entry 'ann-1' for key 'x'", "Duplicate entry '[row]' for key 'x'"),
        ("stat:UNDELIV err:044 text:Dear", "stat:UNDELIV err:044 text:[text]"),
    ],
)
def test_what_looks_like_a_secret_is_masked_without_being_known(said, expected):
    assert mask(said) == expected


@pytest.mark.parametrize(
    ("said", "identity"),
    [
        ("to=256772000001", NUMBER),
        ("to=%2B256772000001&x", NUMBER),
        ("0772 000 001 is barred", NUMBER),
        ("00256-772-000-001", NUMBER),
        ("barred: 256772000001 40", NUMBER),
        ("no such user ANN@example.org", "ann@example.org"),
        ("no such user ann%40example.org", "ann@example.org"),
        ("short code 40404.", "40404"),
        ("to (MTN)", "MTN"),
        ("to AB", "AB"),
    ],
)
def test_an_identity_is_found_in_every_notation(said, identity):
    masked = mask(said, identities=["+256772000009", identity])
    assert "[number]" in masked
    for part in ("000001", "000 001", "000-001", "xample.org", "40404", "MTN", "AB"):
        assert part not in masked


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ValueError: could not convert string to float: 'nairobi'", True),
        ("KeyError: 'join'", True),
        ("RuntimeError: Join nairobi 5", True),
        ('LookupError: "nairobi 5"', True),
        ("no district 'nairob'", False),
        ("can't join 'the others'", False),
    ],
)
def test_the_words_of_a_text_are_found_where_they_stand_alone(said, expected):
    assert ("[text]" in mask(said, texts=["join Nairobi 5"])) is expected


def test_a_part_of_a_long_text_is_found():
    assert mask(f"too long: {TEXT[3:20]}...", texts=[TEXT]) == "too long: [text]..."


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no comment")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no way"), "ValueError: no way"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute: (no text)"),
    ],
)
def test_an_exception_is_described_by_its_class_and_text(error, said):
    assert describe(error) == said
    assert describe(error, with_traceback=True).startswith(said)


class Odd:
    def __str__(self):
        raise RuntimeError("no comment")


def test_what_cannot_be_masked_is_left_out_as_a_whole(settings, caplog):
    settings.INSTALLED_BACKENDS = {"phones": "no mapping"}
    assert mask("password hunter-2") == UNREADABLE
    assert "masking_failed error=AttributeError" in caplog.messages
    settings.INSTALLED_BACKENDS = {"phones": {"key": Odd(), Odd: Odd()}}
    assert mask("plain", texts=[None], identities=[7]) == "plain"


@pytest.mark.parametrize("piece", ["a", "?x", "://", "%25", "1 ", "'", "+%2B", "token=", "err: "])
def test_a_huge_error_is_masked_whatever_it_is_made_of(backend, piece):
    assert len(mask(piece * LONGEST, texts=[TEXT], identities=[NUMBER])) <= 2 * LONGEST
