"""Where the gateway posts its delivery reports."""

from __future__ import annotations

from django.urls import path

from rapidsms_db_router.gateways.http.views import HttpReportView
from tests.acceptance.project import urls

report = HttpReportView.as_view(
    backend_name="gateway",
    networks=["127.0.0.1"],
    items="results",
    id="id",
    outcomes={"DELIVERED": "delivered"},
)
urlpatterns = [*urls.urlpatterns, path("report/", report)]
