"""The secrets that the settings hold.

Of ``INSTALLED_BACKENDS`` every string of six characters and more counts as one, unless the name of
its option is known to be harmless: :data:`HARMLESS`, or ``harmless_options`` of the engine's class.
Of an option whose name tells of a secret any value counts. Of an address the user, the password and
the values of the query count, and what in the path may be a token. Of all other settings the same
holds for names that tell of a secret, and for addresses.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from rapidsms_db_router import conf
from rapidsms_db_router.masking.needles import PART_OF_SECRET, SECRET, Needles
from rapidsms_db_router.masking.patterns import SECRET_NAME

#: A string of a backend's options that is shorter is no secret, unless its name says so.
SHORTEST = 6
#: Options whose words errors have to name; longer values count as secrets all the same.
HARMLESS = {
    "account",
    "charset",
    "coding",
    "content_type",
    "encode_errors",
    "from",
    "login",
    "method",
    "sender",
    "smsc",
    "user",
    "username",
}
LONGEST_HARMLESS = 15
#: A part of an address's path that is this long may be a token, with a digit or without one.
TOKEN_WITH_DIGIT, TOKEN = 6, 20
SENSITIVE = re.compile(rf"{SECRET_NAME}|credential|bearer|sid$", re.I)
SENSITIVE_SETTING = re.compile(r"PASS|SECRET|TOKEN|KEY$|KEYS$|CREDENTIAL|SIGNATURE", re.I)
#: Django's settings whose names tell of a secret, and whose values are dotted paths.
PATHS = {"AUTH_PASSWORD_VALIDATORS", "PASSWORD_HASHERS"}
#: What stands in an option for a part of the message: errors have these words, too.
PLACEHOLDER = re.compile(r"\{(?:identity|identities|text|message_id|coding)\}")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
#: Options are not nested deeper than this.
DEEPEST = 8


def known_secrets() -> Needles:
    """Return what finds the secrets of the settings."""
    values = set(_of_other_settings())
    for backend_name, options in conf.installed_backends():
        harmless = getattr(conf.engine_class(backend_name), "harmless_options", ())
        for name, value in options.items():
            if not (name == "engine" or name.startswith("router.") or name in harmless):
                values.update(_walk(name, value, thorough=True))
    return _needles(frozenset(values))


@lru_cache(maxsize=4)
def _needles(values: frozenset[str]) -> Needles:
    return Needles(values, PART_OF_SECRET, SECRET)


@lru_cache(maxsize=1)
def _of_other_settings() -> frozenset[str]:
    found: set[str] = set()
    for name in dir(settings):
        # to read a default of Django's that it will remove is a warning
        if not (name.isupper() and settings.is_overridden(name)):  # type: ignore[misc]
            continue
        if name not in PATHS and name != "INSTALLED_BACKENDS":
            found.update(_walk(name, getattr(settings, name, None), thorough=False))
    return frozenset(found)


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    _of_other_settings.cache_clear()


def _walk(
    name: str, value: Any, *, thorough: bool, sensitive: bool = False, depth: int = 0
) -> Iterator[str]:
    """Yield the secrets in an option and in what it holds.

    :param thorough: whether every long string counts, whatever its name.
    :param sensitive: whether the option's name, or one above it, tells of a secret.
    """
    pattern = SENSITIVE if thorough else SENSITIVE_SETTING
    sensitive = sensitive or pattern.search(name) is not None
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, int) and not isinstance(value, bool) and sensitive:
        value = str(value)
    if isinstance(value, str):
        yield from _of_string(name, str(value), thorough=thorough, sensitive=sensitive)
        return
    if depth == DEEPEST or isinstance(value, (type, bool, int, float, type(None))):
        return
    if isinstance(value, Mapping):
        items = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = [(name, each) for each in value]
    elif thorough:  # an object such as requests' HTTPBasicAuth
        items = list(getattr(value, "__dict__", {}).items())
    else:
        return
    for key, each in items:
        yield from _walk(key, each, thorough=thorough, sensitive=sensitive, depth=depth + 1)


def _of_string(name: str, value: str, *, thorough: bool, sensitive: bool) -> Iterator[str]:
    value = PLACEHOLDER.sub(" ", value).strip()
    if ADDRESS.match(value):
        yield from _of_address(value)
        return
    harmless = name.lower() in HARMLESS and len(value) <= LONGEST_HARMLESS
    if not sensitive and (not thorough or harmless):
        return
    if sensitive and value:
        yield value
    # "Bearer x", "user:x" and "key=x&to={identity}" are repeated in part
    for part in {value, *re.split(r"[^\w.+/~@-]+", value), *_decoded(value)}:
        if len(part) >= SHORTEST:
            yield part


def _of_address(value: str) -> Iterator[str]:
    rest = value.partition("://")[2]
    before_query, _, query = rest.partition("?")
    authority, _, path = before_query.partition("/")
    userinfo, at, _ = rest.rpartition("@") if "@" not in authority else authority.rpartition("@")
    parts = []
    if at and ":" in userinfo:
        user, _, password = userinfo.partition(":")
        parts += [password, *([user] if len(user) > LONGEST_HARMLESS else [])]
    elif at:
        parts.append(userinfo)
    parts += [pair.partition("=")[2] for pair in re.split("[&;]", query)]
    parts += [
        each
        for each in re.split("[/:]", path)
        if len(each) >= TOKEN or (len(each) >= TOKEN_WITH_DIGIT and re.search("[0-9]", each))
    ]
    for part in parts:
        for each in {part, unquote_plus(part)}:
            if len(each) >= SHORTEST or (part is parts[0] and at and each):
                yield each


def _decoded(value: str) -> Iterator[str]:
    """Yield the password in a value such as ``Basic dXNlcjpwYXNzd29yZA==``."""
    try:
        said = base64.b64decode(value.rpartition(" ")[2], validate=True).decode()
    except ValueError:
        return
    yield said.partition(":")[2]
