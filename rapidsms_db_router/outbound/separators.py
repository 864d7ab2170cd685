"""Engines that join the recipients of a call by a separator, and identities that hold one.

``" ".join(["+256 772 000 001"])`` names four recipients, all of them strangers.
"""

from __future__ import annotations

from functools import cache

from rapidsms_db_router import conf
from rapidsms_db_router.engine import Recipient

#: Engines by dotted path, subclasses included, with the characters that part recipients beside
#: white space.
SEPARATORS = {
    "rapidsms.backends.kannel.outgoing.KannelBackend": "",
    "rapidsms_multimodem.outgoing.MultiModemBackend": ',"',
}
#: Why such an identity is given up.
REASON = (
    "The identity is empty, or has white space, a comma or a quote: the backend's engine would take"
    " it for other recipients."
)
#: Engines of this package check identities themselves.
OURS = "rapidsms_db_router."


def unfit(rows: list[Recipient], backend_name: str) -> list[Recipient]:
    """Return those whose identity a backend's engine would take for several, or for strangers'."""
    engine = conf.engine_class(backend_name)
    separators = _separators(engine) if isinstance(engine, type) else None
    if separators is None:
        return []
    return [row for row in rows if _is_unfit(row.identity, separators)]


def _is_unfit(identity: str, separators: str) -> bool:
    return not identity or any(each.isspace() or each in separators for each in identity)


@cache
def _separators(engine: type) -> str | None:
    """Return what parts recipients beside white space, if the engine is one of the table."""
    for class_ in engine.__mro__:
        ancestor = f"{class_.__module__}.{class_.__qualname__}"
        if ancestor.startswith(OURS):
            return None
        if ancestor in SEPARATORS:
            return SEPARATORS[ancestor]
    return None
