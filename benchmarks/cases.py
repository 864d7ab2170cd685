"""What is measured: each case on a fresh state of one side, with figures as its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.sides import PROCESSES, Side, Worker
from tests.acceptance.running import wait_for

Figures = dict[str, float]

#: How long one call takes of a gateway that is not at once, in seconds.
GATEWAY_SECONDS = 0.05
SLOW_GATEWAY_SECONDS = 0.1
#: Pings while a broadcast drains, and how long one comes after the other, in seconds.
TEXTERS, BETWEEN_TEXTS = 10, 0.5


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    :param sizes: to be measured one after the other; ``quick`` are those of the quick version.
    :param measure: on a side, at a size.
    :param floor: the same without a router.
    :param theirs_most: the largest size at which theirs is measured.
    :param theirs_once: from which size on it is measured once, whatever the number of runs.
    :param quick_theirs: whether theirs is measured in the quick version, too.
    """

    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    measure: Callable[[Side, int], Figures] | None
    floor: Callable[[Side, int], Figures] | None = None
    theirs_most: int = 100_000
    theirs_once: int = 100_000
    quick_theirs: bool = True


def intake(side: Side, count: int) -> Figures:
    """Send to a QuerySet."""
    return side.inside("intake", count, "queryset")


def intake_of_list(side: Side, count: int) -> Figures:
    """Send to a list."""
    return side.inside("intake", count, "list")


def floor_of_intake(side: Side, count: int) -> Figures:
    return side.inside("floor_intake", count)


def drain(side: Side, count: int) -> Figures:
    """Send what is stored, through a gateway that takes everything at once."""
    with side.worker() as worker:
        return drain_with(worker, count)


def drain_slow(side: Side, count: int) -> Figures:
    """Send what is stored, through a gateway that takes its time."""
    with side.worker(GATEWAY_SECONDS) as worker:
        return drain_with(worker, count)


def drain_with(worker: Worker, count: int) -> Figures:
    side, before = worker.side, worker.side.newest()
    with worker.held():
        side.inside("broadcast", count)
    memory = worker.megabytes()
    worker.go_on()
    side.wait_until_done(before)
    seconds, at_first = side.query(
        f"SELECT extract(epoch FROM max(sent) - min(sent))::float,"
        f" count(*) FILTER (WHERE sent = (SELECT min(sent) FROM {side.transmission}"
        f"     WHERE message_id > %s))"
        f" FROM {side.transmission} WHERE message_id > %s AND status = 'S'",
        before,
        before,
    )[0]
    return {
        "seconds": seconds,
        "rate": (count - at_first) / seconds,  # the first were sent when the time began
        "worker megabytes": worker.megabytes(),
        "worker growth": worker.megabytes() - memory,
    }


def floor_of_drain(side: Side, count: int) -> Figures:
    return side.inside("floor_drain", count, PROCESSES)


def receiving(side: Side, count: int) -> Figures:
    """Have messages come in, with nobody to process them."""
    return side.inside("come_in", count)


def floor_of_receiving(side: Side, count: int) -> Figures:
    return side.inside("floor_come_in", count)


def ping_to_pong(side: Side, count: int) -> Figures:
    """Answer pings that are stored."""
    with side.worker() as worker:
        before = side.newest()
        with worker.held():
            side.inside("come_in", count)
        start = worker.go_on()
        side.wait_until_done(before)
    waits, last = replies(side, before)
    assert len(waits) == count, f"{len(waits)} of {count} answered"
    return {"seconds": last - start, "rate": count / (last - start)}


def fairness(side: Side, count: int) -> Figures:
    """Text in while a broadcast drains."""
    with side.worker(SLOW_GATEWAY_SECONDS) as worker:
        before = side.newest()
        with worker.held():
            side.inside("broadcast", count)
        broadcast = side.newest()
        worker.go_on()
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


def replies(side: Side, after: int) -> tuple[list[float], float]:
    """Return how long each who texted in waited for the reply, and when the last was sent."""
    rows = side.query(
        f"SELECT extract(epoch FROM t.sent - i.date)::float, extract(epoch FROM t.sent)::float"
        f" FROM {side.message} o JOIN {side.message} i ON i.id = o.in_response_to_id"
        f" JOIN {side.transmission} t ON t.message_id = o.id WHERE i.id > %s AND t.status = 'S'",
        after,
    )
    return [wait for wait, _ in rows], max((sent for _, sent in rows), default=0)


def steps(side: Side, count: int) -> Figures:
    """Count the queries of each step."""
    return side.inside("steps", count)


def bare_tasks(side: Side, count: int) -> Figures:
    """Run tasks that do nothing."""
    path = side.folder / "times"
    path.unlink(missing_ok=True)
    with side.worker() as worker:
        with worker.held():
            figures = side.inside("publish", count, str(path))
        start = worker.go_on()
        wait_for(
            "the bare tasks",
            lambda: path.exists() and path.read_bytes().count(b"\n") == count,
        )
    seconds = max(map(float, path.read_text().split())) - start
    return figures | {"seconds": seconds, "rate": count / seconds}


CASES = {
    "intake": Case((1_000, 10_000, 100_000, 1_000_000), (4_000,), intake, floor_of_intake),
    "intake of a list": Case((100_000,), (4_000,), intake_of_list),
    "drain": Case((40_000,), (4_000,), drain, floor_of_drain, quick_theirs=False),
    "drain, 50 ms a call": Case((40_000,), (), drain_slow, theirs_once=1),
    "receive": Case((1_000,), (20,), receiving, floor_of_receiving),
    "ping to pong": Case((1_000,), (20,), ping_to_pong),
    "reply during a broadcast": Case(
        (40_000,), (4_000,), fairness, theirs_once=1, quick_theirs=False
    ),
    "queries": Case((600, 10_000), (600, 1_200), steps, theirs_once=1),
    "bare tasks": Case((2_000,), (20,), None, bare_tasks),
}
