"""Replies: how many, how soon, and in what order, whatever else goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from statistics import median

from benchmarks.calls import Call, most_at_once, out_of_order, rate
from benchmarks.cases.case import Case, Figures
from benchmarks.gateways import http_server
from benchmarks.service import ANSWERS
from benchmarks.setups import FEW_WARM, WARM_PINGS, Setup, one_sms_a_call
from benchmarks.sides import Side
from tests.acceptance.running import wait_for

#: How long one call takes of the gateways, in seconds.
SECONDS, SLOW_SECONDS, BATCH_SECONDS = 0.05, 0.3, 0.1
#: How much longer or shorter a call may take where the order counts, in seconds.
SPREAD = 0.04
#: Pings while a broadcast drains, and how long one comes after the other, in seconds.
TEXTERS, BETWEEN_TEXTS = 10, 0.5
#: Pings while another gateway hangs; after how long a call of that one is given up, in seconds;
#: what its messages wait before they are tried again, in seconds.
MANY_TEXTERS, BETWEEN_MANY, TIMEOUT, BACKOFF = 50, 0.2, 5, 1
#: For how long to wait for replies, and then for what had to hang, in seconds.
PATIENCE, HANGING_PATIENCE = 20, 180


def ping_to_pong(side: Side, count: int) -> Figures:
    """Answer pings that are stored."""
    with side.running(Setup()) as workers:
        before = side.newest()
        with workers.held():
            side.inside("come_in", count)
        start = workers.go_on()
        side.wait_until_done(before)
    waits, last = replies(side, before)
    assert len(waits) == count, f"{len(waits)} of {count} answered"
    return {"seconds": last - start, "rate": count / (last - start)}


def bare_tasks(side: Side, count: int) -> Figures:
    """Run tasks that do nothing."""
    path = side.folder / "times"
    path.unlink(missing_ok=True)
    with side.running(Setup()) as workers:
        with workers.held():
            figures = side.inside("publish", count, str(path))
        start = workers.go_on()
        wait_for(
            "the bare tasks",
            lambda: path.exists() and path.read_bytes().count(b"\n") == count,
        )
    seconds = max(map(float, path.read_text().split())) - start
    return figures | {"seconds": seconds, "rate": count / seconds}


def replies(side: Side, after: int) -> tuple[list[float], float]:
    """Return how long each who texted in waited for the reply, and when the last was sent."""
    rows = side.query(
        f"SELECT extract(epoch FROM t.sent - i.date)::float, extract(epoch FROM t.sent)::float"
        f" FROM {side.message} o JOIN {side.message} i ON i.id = o.in_response_to_id"
        f" JOIN {side.transmission} t ON t.message_id = o.id WHERE i.id > %s AND t.status = 'S'",
        after,
    )
    return [wait for wait, _ in rows], max((sent for _, sent in rows), default=0)


def fairness(side: Side, count: int) -> Figures:
    """Text in while a broadcast drains, 200 at a time."""
    with side.running(Setup({"seconds": BATCH_SECONDS})) as workers:
        before = side.newest()
        with workers.held():
            side.inside("broadcast", count)
        broadcast = side.newest()
        workers.go_on()
        rows = f"{side.transmission} WHERE message_id = %s AND status = 'S'"
        sent = f"SELECT EXISTS (SELECT FROM {rows})"
        wait_for("the broadcast to begin", lambda: side.query(sent, broadcast)[0][0])
        side.inside("come_in", TEXTERS, BETWEEN_TEXTS)
        side.wait_until_done(before)
    waits, _ = replies(side, broadcast)
    assert len(waits) == TEXTERS, f"{len(waits)} of {TEXTERS} answered"
    last_came_in, drained = side.query(
        f"SELECT (SELECT max(date) FROM {side.message} WHERE direction = 'I'),"
        f" (SELECT max(sent) FROM {side.transmission} WHERE message_id = %s)",
        broadcast,
    )[0]
    return {
        "longest wait": max(waits),
        "median wait": median(waits),
        "shortest wait": min(waits),
        "drain after last ping": (drained - last_came_in).total_seconds(),
    }


def many_replies(side: Side, count: int) -> Figures:
    """Answer texts that are stored, through a gateway that takes 300 ms."""
    with side.running(Setup({"seconds": SLOW_SECONDS}, written=True)) as workers:
        with workers.held():
            side.inside("come_in", count)
        start = workers.go_on()
        side.calls.wait_for(count)
        calls = side.calls.read()
    return {
        "rate": rate(calls),
        "rate since the start": len(calls) / (calls[-1].end - start),
        "first after": calls[0].end - start,
        "most at once": most_at_once(calls),
    }


def reply_during_broadcast(side: Side, count: int) -> Figures:
    """Text in while a broadcast of one SMS a call drains to the same gateway."""
    with side.running(one_sms_a_call(seconds=SLOW_SECONDS)) as workers:
        with workers.held():
            side.inside("broadcast", count)
        workers.go_on()
        side.calls.wait_for(min(count // 4, 100))
        moments = side.inside("text_in", TEXTERS, BETWEEN_TEXTS)
        return waits(side, moments, SLOW_SECONDS)  # what is left is dropped


def waits(side: Side, moments: dict[str, float], seconds: float) -> Figures:
    """Return how long replies took, over what their gateway takes.

    :param moments: when each text was handed over, by its answer.
    :param seconds: how long the gateway takes.
    """

    def found() -> list[float]:
        taken = {call.text: call.end for call in side.calls.read() if call.text in moments}
        return [taken[text] - moment for text, moment in moments.items() if text in taken]

    with suppress(AssertionError):  # the figures say so
        wait_for("the replies", lambda: len(found()) == len(moments), PATIENCE)
    over = [wait - seconds for wait in found()] or [float(PATIENCE)]
    return {
        "longest over the gateway": max(over),
        "median over the gateway": median(over),
        "unanswered": len(moments) - len(found()),
    }


def hanging(side: Side, count: int) -> Figures:
    """Text in while another gateway, with messages of its own, takes calls and answers none."""
    people = MANY_TEXTERS if count >= MANY_TEXTERS * 10 else TEXTERS
    with http_server(side, SECONDS) as server:
        other = {
            "ENGINE": "benchmarks.service.gateway.OverHttp",
            "url": server.url,
            "router.db.batch_size": 1,
            "router.db.timeout": TIMEOUT,
        }
        more = {"BENCHMARK_RETRY_BACKOFF": str(BACKOFF)}
        gateway = {"seconds": SECONDS}
        warm = (FEW_WARM, WARM_PINGS)
        setup = Setup(gateway, other, written=True, warm=warm, more=more)
        with side.running(setup) as workers:
            server.tell("hang")
            with workers.held():
                side.inside("broadcast", count, "other")
            workers.go_on()
            moments = side.inside("text_in", people, BETWEEN_MANY)
            figures = waits(side, moments, SECONDS)
            server.tell("go-on")
            return {**figures, **ending(side, count)}


def ending(side: Side, count: int) -> Figures:
    """Wait until the gateway that has hung has taken all; return how long that took."""

    def taken() -> list[Call]:
        return [call for call in side.calls.read() if call.text == "broadcast"]

    start = time.time()
    with suppress(AssertionError):  # the figures say so
        wait_for(
            "the messages that hung",
            lambda: len({call.identity for call in taken()}) == count,
            HANGING_PATIENCE,
        )
    calls = taken()
    people = {call.identity for call in calls}
    return {
        "all sent after": (calls[-1].end if calls else time.time()) - start,
        "not sent": count - len(people),
        "sent twice": len(calls) - len(people),
    }


def order(side: Side, count: int) -> Figures:
    """Have each of many answered by three messages."""
    gateway = {"seconds": SECONDS, "spread": SPREAD}
    with side.running(Setup(gateway, written=True)) as workers:
        with workers.held():
            side.inside("ask_to_count", count)
        start = workers.go_on()
        side.calls.wait_for(count * ANSWERS)
        calls = side.calls.read()
    return {
        "people out of order": out_of_order(calls),
        "calls": len(calls),
        "rate": rate(calls),
        "seconds": calls[-1].end - start,
    }


CASES = {
    "ping to pong": Case(
        "ping", (1_000,), (20,), ping_to_pong, bare_tasks, theirs_once=1, old=True
    ),
    "replies, 300 ms a call": Case(
        "replies",
        (1_500,),
        (40,),
        many_replies,
        theirs_size=60,
        quick_theirs=False,
        runs=1,
    ),
    "reply during a broadcast": Case(
        "fairness", (40_000,), (4_000,), fairness, theirs_once=1, quick_theirs=False, old=True
    ),
    "reply during a broadcast, one SMS a call": Case(
        "reply", (40_000,), (), reply_during_broadcast, theirs_most=0, runs=1
    ),
    "reply while another gateway hangs": Case(
        "hanging", (1_000,), (40,), hanging, theirs_most=0, runs=1
    ),
    "three messages each": Case(
        "order", (1_000,), (30,), order, theirs_size=100, quick_theirs=False, runs=1
    ),
}
