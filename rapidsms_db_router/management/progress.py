"""How far a command has come."""

from __future__ import annotations

import time
from typing import Any

#: Characters of the bar.
WIDTH = 40


class Progress:
    """A bar on a terminal; elsewhere a line for each tenth.

    :param stdout: the command's.
    :param word: what is done.
    :param total: how many rows there are.
    """

    def __init__(self, stdout: Any, word: str, total: int) -> None:
        self._stdout, self._word, self._total = stdout, word, total
        self._begun, self._done, self._told = time.monotonic(), 0, 0
        self._is_terminal = stdout.isatty()

    def add(self, rows: int) -> None:
        """Tell that more rows are done."""
        self._done += rows
        tenth = 10 * self._done // max(self._total, 1)
        if self._is_terminal:
            share = min(self._done / max(self._total, 1), 1)
            bar = "#" * int(share * WIDTH)
            self._stdout.write(f"\r[{bar:{WIDTH}}] {self._said()}", ending="")
        elif tenth > self._told:
            self._told = tenth
            self._stdout.write(self._said())

    def end(self) -> None:
        """Leave the bar."""
        if self._is_terminal:
            self._stdout.write("")

    def _said(self) -> str:
        rate = self._done / max(time.monotonic() - self._begun, 0.001)
        return f"{self._done:,} of {self._total:,} rows {self._word}, {rate:,.0f} a second"
