"""Signatures of delivery reports: Kannel gives back what the backend has signed."""

from __future__ import annotations

from typing import Any

from django.core.signing import BadSignature, Signer

SALT = "rapidsms_db_router.gateways.kannel"


def signature(message_id: Any, identity: str) -> str:
    """Return what proves that a report of one message to one recipient was asked for by us."""
    return Signer(salt=SALT).signature(f"{message_id}:{identity}")


def is_signed(message_id: Any, identity: str, given: str) -> bool:
    """Return whether a report has the signature of its message and recipient.

    ``SECRET_KEY_FALLBACKS`` count, too.
    """
    try:
        Signer(salt=SALT).unsign(f"{message_id}:{identity}:{given}")
    except BadSignature:
        return False
    return True
