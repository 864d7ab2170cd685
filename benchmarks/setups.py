"""What a project is told of its gateways, and how many workers it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: How many batches of 200, and how many pings, both processes of a worker are warmed up with.
WARM_BATCHES, WARM_PINGS = 10, 10
#: Recipients of those batches; no case needs fewer connections.
MOST_WARM = WARM_BATCHES * 200
#: Recipients of the warm-up where each is a call that takes its time.
FEW_WARM = 200


@dataclass(frozen=True)
class Setup:
    """Gateways and workers.

    :param gateway: options of the backend ``"gateway"``; one that sleeps unless they say else.
    :param other: options of the backend ``"other"``.
    :param written: whether calls are written down.
    :param workers: how many, of two processes each.
    :param prefixes: what each worker's command begins with.
    :param warm: how many recipients, and how many pings, they are warmed up with.
    :param idle: whether to look at their memory before that.
    :param environment: more of it.
    """

    gateway: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    written: bool = False
    workers: int = 1
    prefixes: tuple[tuple[str, ...], ...] = ()
    warm: tuple[int, int] = (MOST_WARM, WARM_PINGS)
    idle: bool = False
    more: Mapping[str, str] = field(default_factory=dict)

    def environment(self, package: str, path: Path) -> dict[str, str]:
        """Return what the settings read.

        :param package: ``"theirs"`` knows a batch size for all backends alone.
        :param path: where calls are written down.
        """
        common: dict[str, Any] = {"ENGINE": "benchmarks.service.gateway.Gateway"}
        if self.written:
            common["log"] = str(path)
        backends = {"gateway": {**common, **self.gateway}, "other": {**common, **self.other}}
        found = {**self.more, "BENCHMARK_BACKENDS": json.dumps(backends)}
        if package == "theirs":
            found["BENCHMARK_BATCH_SIZE"] = str(self.gateway.get("router.db.batch_size", 200))
        return found


def one_sms_a_call(
    *, seconds: float = 0, written: bool = True, more: Mapping[str, Any] | None = None, **of: Any
) -> Setup:
    """Return a gateway that takes one SMS a call, and so many seconds for it.

    :param more: options of the gateway.
    :param of: more of the :class:`Setup`.
    """
    gateway = {"seconds": seconds, "router.db.batch_size": 1, **(more or {})}
    return Setup(gateway, written=written, **{"warm": (FEW_WARM, WARM_PINGS), **of})
