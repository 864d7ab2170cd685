"""Reasons: errors without what differs from one recipient to the next."""

from __future__ import annotations

import re

from django.db.models.functions import Substr

from rapidsms_db_router.operations.models import LONGEST_REASON

#: Addresses, quoted values, ids, and whatever has a digit in it.
VARYING = re.compile(
    r"""https?://\S+ | '[^']*' | "[^"]*" | <[^>]*> | \S*@\S+ | [\w.+:-]*\d[\w.+:-]*""", re.VERBOSE
)
#: A status of HTTP stays as it is, since it tells most.
STATUS = re.compile(r"\b(?:HTTP\s+)?[45]\d\d\b")
PLACEHOLDER = "…"
#: As much of a stored error as a reason needs.
BEGINS = Substr("error", 1, 200)
#: Reasons of one hour and backend; whatever is beyond counts as :data:`OTHER`.
MOST = 50
OTHER = "other"


def reason_of(error: str) -> str:
    """Return the reason that an error stands for: its first line, without what varies.

    :param error: an error as it is stored with a transmission.
    :returns: at most 80 characters.
    """
    lines = error.strip().splitlines()
    if not lines:
        return ""
    statuses = iter(STATUS.findall(lines[0]))
    kept = STATUS.sub("\0", lines[0])
    plain = re.sub("\0", lambda _: next(statuses), VARYING.sub(PLACEHOLDER, kept))
    return " ".join(plain.split())[:LONGEST_REASON]
