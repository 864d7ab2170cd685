"""Hears the signals of this app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rapidsms_db_router import signals


@contextmanager
def hearing(*names: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield the signals sent so far, in their order: the name of each, and what came with it.

    :param names: which signals are heard.
    """
    found = []
    named = {getattr(signals, name): name for name in names}

    def receiver(signal: Any, **told: Any) -> None:
        found.append((named[signal], told))

    for signal in named:
        signal.connect(receiver)
    try:
        yield found
    finally:
        for signal in named:
            signal.disconnect(receiver)
