"""Paths into what a gateway says: names of keys and places in lists, with dots between them.

``"messages.0.status"`` is the status of the first message, ``"messages[].status"`` that of each.
"""

from __future__ import annotations

import re
from typing import Any

#: Stands for a value that is not there.
MISSING: Any = object()
#: The items of a list, each by itself.
EACH = "[]"
PATH = re.compile(r"(?:[^.\[\]]+(?:\[\])?|\[\])(?:\.[^.\[\]]+(?:\[\])?)*")
#: A code or a word of a gateway's: no number of a phone, and no text of more than a word.
WORD = re.compile(r"[A-Za-z_-]{0,32}[0-9]{0,5}[A-Za-z_-]{0,32}")


def is_path(said: Any) -> bool:
    """Return whether an option is a path."""
    return isinstance(said, str) and PATH.fullmatch(said) is not None


def dig(said: Any, path: str) -> Any:
    """Return what a path without ``[]`` leads to, or :data:`MISSING`.

    :param said: what JSON, or the parameters of a form, have become in Python.
    """
    for step in path.split("."):
        said = _step(said, step)
    return said


def find(said: Any, path: str) -> list[Any]:
    """Return what a path leads to: one value, or one for each item where it has ``[]``.

    :returns: never an empty list: :data:`MISSING` stands for what is not there.
    """
    if EACH not in path:
        return [dig(said, path)]
    found = [said]
    for step in path.split("."):
        name = step.removesuffix(EACH)
        if name:
            found = [_step(value, name) for value in found]
        if name != step:
            found = [item for value in found for item in _items(value) or [MISSING]]
    return found


def items(said: Any, path: str) -> list[Any] | None:
    """Return the list that a path leads to, with or without ``[]`` at its end; else ``None``."""
    name = path.removesuffix(EACH)
    found = dig(said, name) if name else said
    return found if isinstance(found, list) else None


def _step(said: Any, step: str) -> Any:
    if isinstance(said, dict):
        return said.get(step, MISSING)
    # beyond some digits int() raises, and no list is that long
    if isinstance(said, list) and step.isdecimal() and len(step) < 10 and int(step) < len(said):
        return said[int(step)]
    return MISSING


def _items(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []


def plain(said: Any) -> str:
    """Return a value as a string: ``0`` and ``"0"``, ``true`` and ``"true"`` are the same.

    :returns: an empty string for what is no string, number or boolean.
    """
    if isinstance(said, bool):
        return str(said).lower()
    if isinstance(said, float) and said.is_integer():
        return str(int(said))
    return str(said) if isinstance(said, (str, int, float)) else ""


def is_one_of(said: Any, values: Any) -> bool:
    """Return whether a value is among some, or is one."""
    wanted = values if isinstance(values, (list, tuple, set)) else [values]
    if said is None:
        return None in wanted
    return isinstance(said, (str, int, float)) and plain(said) in map(plain, wanted)


def shown(said: Any) -> str:
    """Return a value as a log or an error may show it."""
    word = plain(said)
    return word if word and WORD.fullmatch(word) else "(not shown)"
