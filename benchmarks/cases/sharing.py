"""One worker against two, each on a machine of its own."""

from __future__ import annotations

from benchmarks.cases.broadcasts import KEPT, broadcast_with
from benchmarks.cases.case import Case, Figures
from benchmarks.gateways import http_gateway
from benchmarks.machines import Machines, machines, no_machines
from benchmarks.sides import Side

#: How long one call takes, in seconds, and how many may be made at once.
SECONDS, CONCURRENCY = 0.3, 400
AT_ONCE = {"router.db.concurrency": CONCURRENCY}
#: Connections that its database needs beside those of the broadcast.
SPARE = 1000


def two_workers(side: Side, count: int) -> Figures:
    """Broadcast with one worker, and then with two."""
    with machines(2) as found:
        if found.why_not:
            print(f"Both workers run on one machine: {found.why_not}", flush=True)
        apart = Side(side.package, side.label, side.folder, servers=found.servers)
        try:
            apart.create(count + SPARE)
            rates = [broadcast_from(apart, count, found, workers) for workers in (1, 2)]
        finally:
            apart.drop()
    one, two = rates
    return {
        "rate of one": one,
        "rate": two,
        "times": two / one,
        # one worker may reach the limit of all by itself
        "one, of the limit": one * SECONDS / CONCURRENCY,
        "two, of the limit": two * SECONDS / CONCURRENCY,
        "machines": 1 if found.why_not else 2,
    }


def broadcast_from(side: Side, count: int, found: Machines, workers: int) -> float:
    """Return the SMS a second that so many workers send."""
    side.reset()
    options = {"workers": workers, "prefixes": found.prefixes[:workers]}
    with http_gateway(side, KEPT, SECONDS, AT_ONCE, found.address, **options) as setup:
        return broadcast_with(side, count, setup)["rate"]


CASES = {
    "two workers on two machines": Case(
        "workers", (12_000,), (), two_workers, theirs_most=0, runs=1, needs=no_machines
    )
}
