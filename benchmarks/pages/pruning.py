"""Prunes a million old transmissions; a worker sends for a part of that time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean, median
from typing import Any

import django

django.setup()

from django.db import connection, connections, transaction  # noqa: E402
from django.db.models import QuerySet  # noqa: E402
from rapidsms.models import Connection  # noqa: E402
from rapidsms.router import send  # noqa: E402

from benchmarks.pages.filling import PERIOD  # noqa: E402
from benchmarks.pages.table import Table, percentile  # noqa: E402
from rapidsms_db_router.choices import Status  # noqa: E402
from rapidsms_db_router.models import Message, Transmission  # noqa: E402
from rapidsms_db_router.operations.bisecting import key_since  # noqa: E402
from rapidsms_db_router.operations.retention import erasing  # noqa: E402
from rapidsms_db_router.operations.retention.rules import Rules  # noqa: E402
from rapidsms_db_router.operations.retention.sweeping import Pruning  # noqa: E402
from tests.acceptance.running import wait_for  # noqa: E402

#: How many transmissions are old enough.
COUNT = 1_000_000
#: Recipients of each broadcast that a worker sends meanwhile, and how many broadcasts.
RECIPIENTS = 40_000
BROADCASTS = 40
PATIENCE = 1800


class Transactions:
    """How long each transaction of a pruning took, in seconds; they hold locks as long as that."""

    def __init__(self) -> None:
        self.took: list[float] = []
        #: What the longest one did for most of its time.
        self.slowest = ""

    @contextmanager
    def atomic(self, **options: Any) -> Iterator[None]:
        """Begin a transaction and end it, in place of Django's function."""
        statements: list[tuple[float, str]] = []

        def timed(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
            begun = time.monotonic()
            try:
                return execute(sql, *rest)
            finally:
                statements.append((time.monotonic() - begun, sql))

        begun = time.monotonic()
        with transaction.atomic(**options), connection.execute_wrapper(timed):
            yield
        took = time.monotonic() - begun
        statements.append((took - sum(each for each, _ in statements), "COMMIT, and Python"))
        if took > max(self.took, default=0):
            seconds, sql = max(statements)
            self.slowest = f"{seconds * 1000:.0f} ms of it: {sql[:100]}"
        self.took.append(took)

    def longest(self) -> tuple[str, str]:
        """Return the longest, and what 99 of 100 do not exceed; and what the longest did."""
        longest, usual = max(self.took), percentile(self.took, 0.99)
        return f"{longest * 1000:.0f} ms, 99 %: {usual * 1000:.0f} ms", self.slowest


def drain() -> float:
    """Send a broadcast, and return how many of it were sent in a second."""
    people: QuerySet[Connection] = Connection.objects.filter(pk__lte=RECIPIENTS)
    message = send("while it is pruned", people).database_message
    begun = time.monotonic()
    wait_for("the broadcast to be sent", lambda: _is_sent(message), PATIENCE)
    return RECIPIENTS / (time.monotonic() - begun)


def _is_sent(message: Message) -> bool:
    waits = Transmission.objects.filter(
        message=message, status__in=[Status.QUEUED, Status.PROCESSING]
    )
    return not waits.exists()


def main(transmissions: str) -> None:
    """Drain alone; drain while it prunes; have it prune the rest alone."""
    table, transactions = Table(), Transactions()
    erasing.transaction = transactions  # type: ignore[assignment]
    days = PERIOD.days * (1 - COUNT / int(transmissions))
    rules = Rules.of({"delivered": int(days), "failed": int(days)})
    pruning = Pruning(rules)
    drain()  # after all that was left of other measurements
    alone = median(drain() for _ in range(BROADCASTS // 2))
    table.row("drain alone, median", f"{alone:,.0f}/s")

    def prune() -> None:
        pruning.sweep(0, key_since(rules.latest, Message))
        connections.close_all()

    begun = time.monotonic()
    thread = threading.Thread(target=prune)
    thread.start()
    rates = [drain() for _ in range(BROADCASTS)]
    assert thread.is_alive(), "the pruning has ended before the broadcasts"
    took, count = time.monotonic() - begun, len(transactions.took)
    table.row(f"transactions meanwhile: {count:,}", f"{took:.0f} s")
    ratios = [f"{rate / alone:.2f}" for rate in (median(rates), fmean(rates), min(rates))]
    table.row("drain meanwhile: median, average, least", *ratios)
    thread.join()
    took, count = time.monotonic() - begun - took, len(transactions.took) - count
    table.row(f"transactions alone: {count:,}", f"{took:.0f} s")
    table.row(f"pruned: {pruning.transmissions:,}")
    table.row("longest transaction", *transactions.longest())


if __name__ == "__main__":
    main(*sys.argv[1:])
