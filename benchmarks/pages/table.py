"""What is printed."""

from __future__ import annotations

import os
from collections.abc import Sequence


class Table:
    """Rows that are printed as they come, each with the load of the machine."""

    def row(self, name: str, *figures: str) -> None:
        """Print a row."""
        words = "  ".join(f"{figure:>16}" for figure in figures)
        print(f"{name:50}{words}  load {os.getloadavg()[0]:.1f}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that the given share of all does not exceed."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]
