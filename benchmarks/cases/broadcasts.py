"""Broadcasts to gateways that take one SMS a call, and their time for it."""

from __future__ import annotations

from typing import Any

from benchmarks.calls import busiest_second, most_at_once, rate
from benchmarks.cases.case import Case, Figures, floor_calls, sent_rate
from benchmarks.gateways import http_gateway
from benchmarks.kannels import AT_ONCE as AT_ONCE_AT_KANNEL
from benchmarks.kannels import at_kannel, no_kannel
from benchmarks.setups import Setup, one_sms_a_call
from benchmarks.sides import Side

#: How long one call takes, in seconds.
SECONDS = 0.05
#: Calls at once: what our default is, and what a backend may be set to.
DEFAULT, MANY = 50, 200
AT_ONCE = {"router.db.concurrency": MANY}
#: Workers that share a rate.
SHARING = 3


def broadcast(side: Side, count: int) -> Figures:
    """Send with default settings."""
    return broadcast_with(side, count, one_sms_a_call(seconds=SECONDS))


def floor_of_broadcast(side: Side, count: int) -> Figures:
    with side.told(one_sms_a_call(seconds=SECONDS)):
        return floor_calls(side, count, DEFAULT // 2)


def broadcast_many(side: Side, count: int) -> Figures:
    """Send with 200 calls at once."""
    return broadcast_with(side, count, one_sms_a_call(seconds=SECONDS, more=AT_ONCE, idle=True))


def floor_of_many(side: Side, count: int) -> Figures:
    with side.told(one_sms_a_call(seconds=SECONDS)):
        return floor_calls(side, count, MANY // 2)


def broadcast_with(side: Side, count: int, setup: Setup) -> Figures:
    """Send what is stored; the gateway's calls say how fast that was."""
    with side.running(setup) as workers:
        with workers.held():
            side.inside("broadcast", count)
        memory = workers.memory()
        start = workers.go_on()
        side.calls.wait_for(count)
        calls = side.calls.read()
        figures = {
            "seconds": calls[-1].end - calls[0].end,
            "rate": rate(calls),
            "first after": calls[0].end - start,
            "most at once": most_at_once(calls),
        }
        if setup.idle:
            figures["worker growth"] = workers.growth(memory)
            figures["growth since idle"] = workers.growth(workers.idle)
        return figures


# Over HTTP


def over_http(engine: str, options: dict[str, Any]) -> Any:
    """Return what measures a broadcast to a gateway over HTTP."""

    def measure(side: Side, count: int) -> Figures:
        with http_gateway(side, engine, SECONDS, options) as setup:
            return broadcast_with(side, count, setup)

    return measure


def floor_over_http(engine: str, at_once: int) -> Any:
    """Return what measures the same calls without a router."""

    def measure(side: Side, count: int) -> Figures:
        with http_gateway(side, engine, SECONDS, {}) as setup, side.told(setup):
            return floor_calls(side, count, at_once // 2)

    return measure


# Kannel


def broadcast_to_kannel(side: Side, count: int) -> Figures:
    """Send through our backend for Kannel; the database says how fast that was."""
    with at_kannel() as (setup, box), side.running(setup) as workers:
        before = side.newest()
        with workers.held():
            side.inside("broadcast", count)
        already = len(box.received())
        workers.go_on()
        side.wait_until_done(before)
        figures = sent_rate(side, before, count)
        return {**figures, "at phones": len(box.wait_for_texts(already + count)) - already}


def floor_of_kannel(side: Side, count: int) -> Figures:
    with at_kannel() as (setup, _), side.told(setup):
        return floor_calls(side, count, AT_ONCE_AT_KANNEL // 2)


# A rate


def at_rate(said: str, workers: int) -> Any:
    """Return what measures how well workers keep a rate together."""

    def measure(side: Side, count: int) -> Figures:
        more = {"router.db.rate": said}
        setup = one_sms_a_call(more=more, workers=workers, warm=(20, 10))
        with side.running(setup) as running:
            with running.held():
                side.inside("broadcast", count)
            start = running.go_on()
            side.calls.wait_for(count)
            calls = side.calls.read()
        return {
            "rate": rate(calls),
            "busiest second": busiest_second(call.end for call in calls),
            "first after": calls[0].end - start,
            "calls": len(calls),
        }

    return measure


PLAIN, KEPT, DECLARED = "OverHttp", "OverKeptHttp", "Declared"
CASES = {
    "broadcast": Case(
        "broadcast",
        (4_000,),
        (400,),
        broadcast,
        floor_of_broadcast,
        theirs_size=400,
        theirs_once=1,
        quick_theirs=False,
    ),
    "broadcast, 200 at once": Case(
        "broadcast", (12_000,), (1_000,), broadcast_many, floor_of_many, theirs_most=0
    ),
    "broadcast over HTTP": Case(
        "http", (4_000,), (), over_http(PLAIN, {}), floor_over_http(PLAIN, DEFAULT), theirs_most=0
    ),
    "broadcast over HTTP, 200 at once": Case(
        "http",
        (8_000,),
        (),
        over_http(PLAIN, AT_ONCE),
        floor_over_http(PLAIN, MANY),
        theirs_most=0,
    ),
    "broadcast over kept HTTP, 200 at once": Case(
        "http",
        (12_000,),
        (400,),
        over_http(KEPT, AT_ONCE),
        floor_over_http(KEPT, MANY),
        theirs_most=0,
    ),
    "broadcast by HttpBackend, 200 at once": Case(
        "http",
        (12_000,),
        (400,),
        over_http(DECLARED, AT_ONCE),
        floor_over_http(DECLARED, MANY),
        theirs_most=0,
    ),
    "broadcast to Kannel": Case(
        "kannel",
        (5_000,),
        (),
        broadcast_to_kannel,
        floor_of_kannel,
        theirs_most=0,
        needs=no_kannel,
    ),
    **{
        f"rate {said}, {name}": Case(
            "rates", (size,), quick, at_rate(said, workers), theirs_most=0, runs=1
        )
        for said, size in (("300/s", 9_000), ("1000/s", 30_000))
        for name, workers, quick in (
            ("one worker", 1, ()),
            ("three workers", SHARING, (600,) if said == "300/s" else ()),
        )
    },
}
