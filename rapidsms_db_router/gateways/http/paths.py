"""Paths into what a gateway says: names of keys and places in lists, with dots between them."""

from __future__ import annotations

from typing import Any

#: Stands for a value that is not there.
MISSING: Any = object()


def dig(said: Any, path: str) -> Any:
    """Return what a path leads to, such as ``"messages.0.status.groupName"``.

    :param said: what JSON, or the parameters of a form, have become in Python.
    :returns: :data:`MISSING` if nothing is there.
    """
    for step in path.split("."):
        if isinstance(said, dict):
            said = said.get(step, MISSING)
        elif isinstance(said, list) and step.isdecimal() and int(step) < len(said):
            said = said[int(step)]
        else:
            return MISSING
    return said


def is_one_of(said: Any, values: Any) -> bool:
    """Return whether a value is among some, or is one: ``0`` is as good as ``"0"``."""
    wanted = values if isinstance(values, (list, tuple, set)) else [values]
    return any(_plain(said) == _plain(value) for value in wanted)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
