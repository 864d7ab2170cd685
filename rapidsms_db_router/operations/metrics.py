"""Metrics for Prometheus, read from the database when they are asked for.

Every process answers the same, so that one of them is to be scraped, and none has to remember
anything. Needs the extra ``metrics``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.operations import figures, histograms
from rapidsms_db_router.operations.figures import BackendFigures
from rapidsms_db_router.operations.incidents import incidents
from rapidsms_db_router.operations.models import Outcome
from rapidsms_db_router.operations.tallies.hours import HOUR

CONTENT_TYPE = CONTENT_TYPE_LATEST
#: The percentiles of a span that are told.
QUANTILES = (0.5, 0.95, 0.99)
#: Those of an outbound transmission.
OUTCOMES = (Outcome.WAITING, Outcome.SENT, Outcome.DELIVERED, Outcome.FAILED)


def _oldest(each: BackendFigures) -> float:
    since = each.waiting.since
    return 0.0 if since is None else max((now() - since).total_seconds(), 0.0)


#: One number of each backend: the metric's name, what it is, and where the number comes from.
OF_BACKENDS = (
    ("working", "1 if the backend is called, 0 if it is paused or out of order",
     lambda each: float(not (each.is_paused or each.is_out_of_order))),
    ("paused", "1 if operators have paused the backend", lambda each: float(each.is_paused)),
    ("waiting", "transmissions that may be sent now", lambda each: each.waiting.ready),
    ("waiting_later", "transmissions with a later date, retries among them",
     lambda each: each.waiting.later),
    ("oldest_waiting_seconds", "age of the oldest message that may be sent now", _oldest),
    ("calls_in_flight", "calls of the backend that workers make now",
     lambda each: each.in_flight.calls),
    ("calls_allowed", "calls that may be in flight at once", lambda each: each.limits.concurrency),
    ("threads_left_behind", "calls that did not keep their deadline",
     lambda each: each.in_flight.abandoned),
    ("segments_per_second", "SMS segments that workers have sent of late",
     lambda each: each.in_flight.pace),
    ("senders", "worker processes that send to the backend", lambda each: each.in_flight.senders),
)  # fmt: skip


class Collector:
    """Reads the figures; prometheus-client asks it at each scrape."""

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        found = figures.backends()
        for name, words, number in OF_BACKENDS:
            metric = GaugeMetricFamily(f"rapidsms_router_{name}", words, labels=["backend"])
            for each in found:
                metric.add_metric([each.backend.name], number(each))
            yield metric
        yield _flows(found)
        yield _latencies()
        metric = GaugeMetricFamily("rapidsms_router_incidents", "incidents of now", labels=["code"])
        said = [incident.code for incident in incidents(found)]
        for code in sorted(set(said)):
            metric.add_metric([code], said.count(code))
        yield metric


def _flows(found: list[BackendFigures]) -> Metric:
    metric = GaugeMetricFamily(
        "rapidsms_router_transmissions",
        "outbound transmissions that were stored in this hour and the one before, by outcome",
        labels=["backend", "outcome"],
    )
    for each in found:
        # those of zero, too: a share of nothing that failed is 0, and not missing
        for outcome in OUTCOMES:
            metric.add_metric([each.backend.name, outcome], each.hour.counts[outcome])
    return metric


def _latencies() -> Metric:
    metric = GaugeMetricFamily(
        "rapidsms_router_latency_seconds",
        "how long the transmissions of this hour and the one before took",
        labels=["span", "percentile"],
    )
    (found,) = figures.latencies(now() - HOUR)
    for span, histogram in found.items():
        for quantile in QUANTILES:
            value = histograms.percentile(histogram, quantile)
            if value is not None:
                metric.add_metric([span, f"{100 * quantile:.0f}"], value)
    return metric


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    collector: Any = Collector()
    registry.register(collector)
    return generate_latest(registry)
