"""Which recipients of a call a backend means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.identities import digits, spelled

#: Names that are read at most: a generator may have no end, and neither may a mapping.
MOST_NAMES = 100_000


class Names:
    """Finds the recipients of a call by how a backend spells them."""

    def __init__(self, rows: list[Recipient]) -> None:
        self._rows = rows

    @cached_property
    def _exact(self) -> dict[str, list[Recipient]]:
        return _grouped((row.identity, row) for row in self._rows)

    @cached_property
    def _by_digits(self) -> dict[str, list[Recipient]]:
        found = _grouped((digits(row.identity), row) for row in self._rows)
        found.pop("", None)
        return found

    def find(self, name: Any) -> tuple[list[Recipient], bool]:
        """Return whom a name fits, and whether to the letter; else by its digits.

        :param name: a string, an integer, bytes: whatever the backend used.
        """
        if isinstance(name, bool):
            return [], False
        try:
            said = spelled(name)
        except Exception:  # the backend's own class
            return [], False
        if rows := self._exact.get(said):
            return rows, True
        return self._by_digits.get(digits(said), []), False

    def find_all(self, named: Any) -> tuple[set[int], bool]:
        """Return the primary keys of those that an exception names, and whether that is all.

        :param named: its ``failed_identities``: a collection, a single name, or a string of names.
        """
        found: set[int] = set()
        if isinstance(named, (str, bytes)):
            rows, _ = self.find(named)
            named = [named] if rows else re.split(r"[,;\s]+", spelled(named).strip())
            named = [each for each in named if each]
        elif not isinstance(named, Iterable):
            return {row.id for row in self.find(named)[0]}, True
        complete = True
        try:
            for number, name in enumerate(islice(named, MOST_NAMES + 1)):
                rows, _ = self.find(name)
                found |= {row.id for row in rows}
                complete = complete and bool(rows) and number < MOST_NAMES
        except Exception:  # a generator
            complete = False
        return found, complete

    def match(self, said_of: Mapping[Any, Any]) -> tuple[dict[int, Any], list[Any]]:
        """Return what is said of each recipient, by primary key, and what is said of nobody.

        :raises Exception: what a mapping of the backend's own class raises.
        :raises ValueError: if it has more names than are read.
        """
        found: dict[int, Any] = {}
        spelled_otherwise: dict[int, Any] = {}
        of_nobody = []
        pairs = list(islice(said_of.items(), MOST_NAMES + 1))
        if len(pairs) > MOST_NAMES:
            raise ValueError(f"There are more than {MOST_NAMES} names.")
        for name, said in pairs:
            rows, exactly = self.find(name)
            for row in rows:
                (found if exactly else spelled_otherwise).setdefault(row.id, said)
            if not rows:
                of_nobody.append(said)
        return {**spelled_otherwise, **found}, of_nobody


def _grouped(pairs: Iterable[tuple[str, Recipient]]) -> dict[str, list[Recipient]]:
    found: dict[str, list[Recipient]] = {}
    for name, row in pairs:
        found.setdefault(name, []).append(row)
    return found
