"""One number, in the ways that people and gateways write it."""

from __future__ import annotations

from rapidsms_db_router.identities import digits


def forms(number: str) -> set[str]:
    """Return the ways to write a number: as it is said, bare, with ``+`` and with ``00``."""
    bare = digits(number).lstrip("0")
    return {number, *(form + bare for form in ("", "+", "00", "0") if bare)}


def is_one_of(identity: str, wanted: set[str]) -> bool:
    """Return whether an identity is a number, written in any way."""
    return bool(identity) and (identity in wanted or digits(identity) in wanted)
