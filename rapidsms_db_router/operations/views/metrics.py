"""Metrics for Prometheus."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from rapidsms_db_router.gateways.access import AccessMixin
from rapidsms_db_router.operations import metrics


class MetricsView(AccessMixin):
    """Answers with the metrics, in Prometheus' text format; takes ``secret`` and ``networks``."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
