"""What the demo prints: headings, and a table of statuses that fills up."""

import sys
import time

from rapidsms_db_router.choices import Status

LIVE = sys.stdout.isatty()
BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if LIVE else ("",) * 5
)
STATUSES = (Status.QUEUED, Status.PROCESSING, Status.SENT, Status.DELIVERED, Status.ERRORED)
BAR_WIDTH = 40


def say(text):
    """Print a line at once."""
    print(text, flush=True)


def heading(text):
    """Print a heading."""
    say(f"\n{BOLD}{text}{PLAIN}")


class StatusTable:
    """How many transmissions have which status.

    On a terminal it is drawn over itself; elsewhere it is a line a second.
    """

    def __init__(self, total):
        self.total = total
        self.began = self.said = time.monotonic()
        self.height = 0

    def show(self, counts, again):
        """Show ``counts`` by status, and how many of the errored will be tried ``again``."""
        moment = time.monotonic()
        given_up = counts[Status.ERRORED] - again
        done = (counts[Status.SENT] + counts[Status.DELIVERED] + given_up) / self.total
        progress = f"{int(100 * done):3}% {moment - self.began:5.1f} s"
        errored = f"{again} to be tried again, {given_up} given up"
        if LIVE:
            lines = [
                f"  {status.value} {status.label:<12}{counts[status]:>6,}" for status in STATUSES
            ]
            lines = [f"  [{bar(done)}] {progress}", *lines]
            lines[-1] += f"  {DIM}{errored}{PLAIN}"
            up = f"\033[{self.height}A" if self.height else ""
            say(up + "\n".join(f"\033[2K{line}" for line in lines))
            self.height = len(lines)
        elif moment - self.said >= 1 or done == 1:
            columns = "  ".join(f"{status.value} {counts[status]:,}" for status in STATUSES)
            say(f"  {progress}   {columns} ({errored})")
            self.said = moment


def bar(part):
    """Return a bar of which ``part`` is filled."""
    filled = int(part * BAR_WIDTH)
    return "#" * filled + "." * (BAR_WIDTH - filled)
