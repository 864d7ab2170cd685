"""Broadcasts to a gateway that takes 200 at once, and what may slow them down."""

from __future__ import annotations

from benchmarks.calls import rate
from benchmarks.cases.case import Case, Figures, sent_rate
from benchmarks.setups import Setup, one_sms_a_call
from benchmarks.sides import Side
from benchmarks.workers import PROCESSES, Workers

#: How long one call takes of a gateway that is not at once, in seconds.
GATEWAY_SECONDS = 0.05


def drain(side: Side, count: int) -> Figures:
    """Send what is stored, through a gateway that takes everything at once."""
    with side.running(Setup()) as workers:
        return drain_with(workers, count)


def drain_slow(side: Side, count: int) -> Figures:
    """Send what is stored, through a gateway that takes its time."""
    with side.running(Setup({"seconds": GATEWAY_SECONDS})) as workers:
        return drain_with(workers, count)


def drain_with(workers: Workers, count: int, *, analyze: bool = True) -> Figures:
    """Send what is stored.

    :param analyze: whether the database is told of the rows.
    """
    side, before = workers.side, workers.side.newest()
    with workers.held(analyze=analyze):
        side.inside("broadcast", count)
    memory = workers.megabytes()
    workers.go_on()
    side.wait_until_done(before)
    return {
        **sent_rate(side, before, count),
        "worker megabytes": workers.megabytes(),
        "worker growth": workers.megabytes() - memory,
    }


def floor_of_drain(side: Side, count: int) -> Figures:
    return side.inside("floor_drain", count, PROCESSES)


def drain_unknown(side: Side, count: int) -> Figures:
    """Send on statistics of empty tables, and on fresh ones."""
    figures = {}
    for name, known in (("rate with fresh statistics", True), ("rate", False)):
        side.reset()
        for table in side.tables():
            side.database.execute(f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass")
            side.database.execute(f"ANALYZE {table}")
            side.database.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        try:
            # workers' connections would keep the plans that they have made of warm tables
            with side.running(Setup(warm=(1, 1))) as workers:
                figures[name] = drain_with(workers, count, analyze=known)["rate"]
        finally:
            for table in side.tables():
                side.database.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
    return {**figures, "ratio": figures["rate"] / figures["rate with fresh statistics"]}


def drain_watched(side: Side, count: int) -> Figures:
    """Send one SMS a call without and with a transaction that is open elsewhere all the time."""
    setup = one_sms_a_call()
    figures = {}
    for name, watched in (("rate without it", False), ("rate", True)):
        side.reset()
        with side.running(setup) as workers, side.connect(side.name) as watcher:
            if watched:
                watcher.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                watcher.execute(f"SELECT count(*) FROM {side.message}")
            with workers.held():
                side.inside("broadcast", count)
            workers.go_on()
            side.calls.wait_for(count)
            figures[name] = rate(side.calls.read())
            if watched:
                watcher.execute("ROLLBACK")
    return {**figures, "ratio": figures["rate"] / figures["rate without it"]}


CASES = {
    "drain": Case(
        "drain",
        (40_000,),
        (4_000,),
        drain,
        floor_of_drain,
        theirs_once=1,
        quick_theirs=False,
        old=True,
    ),
    "drain, 50 ms a call": Case("drain", (40_000,), (), drain_slow, theirs_once=1, old=True),
    "drain, statistics of empty tables": Case(
        "statistics", (100_000,), (), drain_unknown, theirs_most=0, runs=1
    ),
    "drain, a transaction open": Case(
        "transaction", (50_000,), (), drain_watched, theirs_most=0, runs=1
    ),
}
