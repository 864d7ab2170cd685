"""Identities in the notations of gateways: with or without ``+``, with blanks, as an integer."""

from __future__ import annotations

import re
from typing import Any

#: What people and gateways put between the digits of a telephone number, and before it.
NUMBER = re.compile(
    r"(?:tel:|sms:)?[\s+().\-/\u2010-\u2015]*[0-9][0-9\s+().\-/\u2010-\u2015]*", re.I
)

#: Characters of an identity that everybody may see.
SHOWN = 3


def spelled(name: Any) -> str:
    """Return an identity as a string, whatever a gateway or a backend names it by.

    :raises Exception: what its ``str()`` raises.
    """
    if isinstance(name, bytes):
        return name.decode("utf-8", "replace")
    return str.__str__(name) if isinstance(name, str) else str(name)


def masked(identity: str) -> str:
    """Return an identity of which no more than the last three characters can be read."""
    return "…" + identity[-SHOWN:] if len(identity) > SHOWN else "…"


def digits(identity: str) -> str:
    """Return what two spellings of a telephone number have in common.

    :returns: its digits without leading zeros: ``+256 772``, ``00256772`` and ``256772`` are the
        same. Empty for what is no telephone number, such as ``MTN``.
    """
    if NUMBER.fullmatch(identity) is None:
        return ""
    return re.sub("[^0-9]", "", identity).lstrip("0")
