"""Errors as text without secrets, telephone numbers and texts of messages.

Whatever is stored, signalled or shown of an exception goes through :func:`describe`, and what a
gateway says in words through :func:`mask`. Both never raise: what cannot be masked is left out as a
whole.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable

from rapidsms_db_router.masking.needles import SECRET, Numbers, Texts
from rapidsms_db_router.masking.patterns import QUERY, find
from rapidsms_db_router.masking.secrets import known_secrets
from rapidsms_db_router.masking.views import Span, views

__all__ = ("describe", "mask")

logger = logging.getLogger(__name__)

#: What stands in place of a whole error that cannot be masked.
UNREADABLE = "[masked]"
#: The characters of an error that are read: more of it helps nobody.
LONGEST = 10_000


def describe(
    error: BaseException,
    *,
    texts: Iterable[str] = (),
    identities: Iterable[str] = (),
    with_traceback: bool = False,
) -> str:
    """Return an exception's class and text, masked; to be stored, never to be logged.

    :param texts: texts of messages that are not to be repeated.
    :param identities: identities that are not to be repeated.
    :param with_traceback: whether the traceback follows, with all causes.
    """
    name = type(error).__name__
    try:
        said = str(error)
    except Exception:
        said = "(no text)"
    whole = f"{name}: {said}" if said else name
    if with_traceback:
        try:
            whole += "\n\n" + "".join(traceback.format_exception(error))
        except Exception:
            whole += "\n\n(no traceback)"
    return mask(whole, texts=texts, identities=identities)


def mask(said: str, *, texts: Iterable[str] = (), identities: Iterable[str] = ()) -> str:
    """Return ``said`` with ``[secret]``, ``[number]`` or ``[text]`` for what is not to be told.

    Secrets are what the settings hold (see :mod:`.secrets`), and what looks like one; an address
    loses its user, password and query. Each is found however it is encoded: percent-encoded, in
    base64 or hexadecimal, with backslashes or as HTML.

    :param said: any text.
    :param texts: texts of messages; also a part of one is found.
    :param identities: telephone numbers in any notation, and other identities. Beside these
        whatever looks like a telephone number is masked.
    """
    if not said:
        return ""
    try:
        # first, since most of what is to be masked is in the query of an address
        said = QUERY.sub(f"?{SECRET}", said[:LONGEST])
        needles = (known_secrets(), Texts.of(tuple(texts)), Numbers.of(tuple(identities)))
        spans: list[Span] = []
        for view in views(said):
            spans += find(view)
            for each in needles:
                spans += each.find(view)
        return _replace(said, spans)
    except Exception as exc:
        logger.error("masking_failed error=%s", type(exc).__name__)
        return UNREADABLE


def _replace(said: str, spans: list[Span]) -> str:
    parts, end = [], 0
    for span in sorted(spans):
        if span.end <= end:
            continue
        if span.start >= end:
            parts += [said[end : span.start], span.label]
        end = span.end
    return "".join([*parts, said[end:]])
