"""The settings of a backend that count while it is sent to."""

from __future__ import annotations

from dataclasses import dataclass

from rapidsms_db_router import conf
from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.overrides import Limits, limits_of
from rapidsms_db_router.models import Message


@dataclass(frozen=True)
class Options:
    """The settings of a backend, read once for each permit."""

    call_size: int
    claim_size: int
    rate: float | None
    timeout: float
    concurrency: int
    max_retries: int
    coding: int | None

    @classmethod
    def of(cls, name: str, limits: Limits | None = None) -> Options:
        """Read them.

        :param limits: those that count at run time, once they are known.
        """
        limits = limits or limits_of(None, name)
        concurrency = limits.concurrency
        if conf.is_local(name):
            concurrency = min(concurrency, 1)  # of this process: no gateway is waited for
        return cls(
            call_size=conf.call_size(name),
            claim_size=conf.claim_size(name),
            rate=limits.rate,
            timeout=conf.timeout(name),
            concurrency=concurrency,
            max_retries=limits.max_retries,
            coding=conf.coding(name),
        )

    def segments(self, message: Message) -> int:
        """Return how many SMS segments a message takes for one recipient."""
        return segments.count(message.text, self.coding)
