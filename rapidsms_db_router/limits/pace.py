"""How fast one sender sends, as operators see it."""

from __future__ import annotations

from collections import deque

#: The pace is that of the last so many seconds.
WINDOW = 10


class Pace:
    """Counts what was sent in each of the last seconds."""

    def __init__(self) -> None:
        #: Whole seconds of the sender's clock, each with the segments that were sent in it.
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, segments: int, moment: float) -> None:
        """Count SMS segments that were sent just now."""
        second = int(moment)
        if self._seconds and self._seconds[-1][0] == second:
            segments += self._seconds.pop()[1]
        self._seconds.append((second, segments))

    def at(self, moment: float) -> float:
        """Return how many SMS segments a second were sent of late."""
        while self._seconds and self._seconds[0][0] <= moment - WINDOW:
            self._seconds.popleft()
        return sum(segments for _, segments in self._seconds) / WINDOW
