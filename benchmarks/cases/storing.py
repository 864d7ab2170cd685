"""What a caller waits for: messages that are stored."""

from __future__ import annotations

from benchmarks.cases.case import Case, Figures
from benchmarks.setups import one_sms_a_call
from benchmarks.sides import Side


def intake(side: Side, count: int) -> Figures:
    """Send to a QuerySet."""
    return side.inside("intake", count, "queryset")


def intake_of_single(side: Side, count: int) -> Figures:
    """Send to a QuerySet, at a gateway that takes one SMS a call."""
    with side.told(one_sms_a_call()):
        return side.inside("intake", count, "queryset")


def intake_of_list(side: Side, count: int) -> Figures:
    """Send to a list."""
    return side.inside("intake", count, "list")


def floor_of_intake(side: Side, count: int) -> Figures:
    return side.inside("floor_intake", count)


def receiving(side: Side, count: int) -> Figures:
    """Have messages come in, with nobody to process them."""
    return side.inside("come_in", count)


def floor_of_receiving(side: Side, count: int) -> Figures:
    return side.inside("floor_come_in", count)


def steps(side: Side, count: int) -> Figures:
    """Count the queries of each step."""
    return side.inside("steps", count)


CASES = {
    "intake": Case(
        "intake", (1_000, 10_000, 100_000, 1_000_000), (4_000,), intake, floor_of_intake, old=True
    ),
    "intake, one SMS a call": Case(
        "intake", (100_000,), (4_000,), intake_of_single, floor_of_intake, theirs_most=0
    ),
    "intake of a list": Case("intake", (100_000,), (4_000,), intake_of_list, old=True),
    "receive": Case("receive", (1_000,), (20,), receiving, floor_of_receiving, old=True),
    "queries": Case("queries", (600, 10_000), (600, 1_200), steps, theirs_once=1),
}
