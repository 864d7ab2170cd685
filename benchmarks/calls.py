"""The calls that a gateway has taken: how they are written down, and what they say."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.running import wait_for

#: How long a gateway may take for all that it is given, in seconds.
PATIENCE = 240


class Call(NamedTuple):
    """One call of a gateway."""

    #: When it was called, and when it had taken what it was given.
    start: float
    end: float
    #: How many identities it was given, and the first of them.
    count: int
    identity: str
    text: str

    def line(self) -> bytes:
        """Return the line of the file; a write of one line is never mixed with another's."""
        return "{:.6f}\t{:.6f}\t{}\t{}\t{}\n".format(*self).encode()

    @classmethod
    def of(cls, line: str) -> Call:
        """Return the call that a line is of."""
        start, end, count, identity, text = line.split("\t")
        return cls(float(start), float(end), int(count), identity, text)


class Calls:
    """The file of a gateway's calls.

    :param path: where it is; gateways find it there at the same time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = 0
        self._seen = self._lines = 0

    def forget(self) -> None:
        """Count and read from here on; gateways go on to write where they are."""
        self._from = self._seen = self._size()
        self._lines = 0

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def number(self) -> int:
        """Return how many there are, whatever the number of their identities."""
        if self._size() > self._seen:
            with self.path.open("rb") as file:
                file.seek(self._seen)
                new = file.read()
            self._seen += len(new)
            self._lines += new.count(b"\n")
        return self._lines

    def wait_for(self, number: int, patience: float = PATIENCE) -> None:
        """Wait until there are so many."""
        what = f"{number} calls"
        wait_for(what, lambda: self.number() >= number, patience)

    def read(self) -> list[Call]:
        """Return them by the moments at which they ended."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._from)
            lines = file.read().decode().splitlines()
        return sorted(map(Call.of, lines), key=lambda call: call.end)


def rate(calls: list[Call]) -> float:
    """Return how many SMS a second were taken, from the first to the last."""
    first = calls[0]
    taken = sum(call.count for call in calls) - first.count
    return taken / max(1e-6, calls[-1].end - first.end)


def busiest_second(moments: Iterable[float]) -> int:
    """Return the most moments in any second, wherever it begins.

    :param moments: in their order.
    """
    known = list(moments)
    return max(
        (bisect_left(known, moment + 1) - place for place, moment in enumerate(known)), default=0
    )


def most_at_once(calls: Iterable[Call]) -> int:
    """Return how many calls the gateway had at the same time, at the most."""
    changes = sorted(change for call in calls for change in ((call.start, 1), (call.end, -1)))
    return max(accumulate(change for _, change in changes), default=0)


def out_of_order(calls: Iterable[Call]) -> int:
    """Return how many people were sent numbers that do not rise.

    A call that begins before the one before it has ended is out of order, too.
    """
    last: dict[str, tuple[int, float]] = {}
    wrong = set()
    for call in sorted(calls, key=lambda call: call.start):
        number, end = last.get(call.identity, (0, 0.0))
        if int(call.text) <= number or call.start < end:
            wrong.add(call.identity)
        last[call.identity] = int(call.text), max(end, call.end)
    return len(wrong)
