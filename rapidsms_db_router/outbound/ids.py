"""The gateway's own ids that a backend has returned for one recipient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.identities import spelled
from rapidsms_db_router.models.transmission import LONGEST_EXTERNAL_ID

#: Parts that one text may have: SMS count them in one octet.
MOST_PARTS = 255


def parts_of(said: Any) -> list[Any]:
    """Return what is said of each part of a message to one recipient; most have one."""
    return list(said[:MOST_PARTS]) if isinstance(said, (list, tuple)) else [said]


def external_ids_of(parts: Iterable[Any]) -> list[str]:
    """Return the ids of parts as the columns can hold them, each once."""
    return list(dict.fromkeys(filter(None, map(_external_id, parts))))


def _external_id(said: Any) -> str:
    if said is None or isinstance(said, bool):
        return ""
    try:
        return narrow_text(clean_text(spelled(said))).strip()[:LONGEST_EXTERNAL_ID]
    except Exception:  # the backend's own class
        return ""
