"""What is measured: each case on a fresh state of one side, with figures as its result."""

from benchmarks.cases import broadcasts, draining, replying, sharing, storing
from benchmarks.cases.case import Case

CASES: dict[str, Case] = {
    **storing.CASES,
    **draining.CASES,
    **replying.CASES,
    **broadcasts.CASES,
    **sharing.CASES,
}

__all__ = ("CASES", "Case")
