"""Metrics for Prometheus."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views import View

from rapidsms_db_router.operations import metrics


class MetricsView(View):
    """Answers with the metrics, in Prometheus' text format."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
