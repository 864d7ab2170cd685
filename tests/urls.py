"""URLs of the tests: the admin, and the ways in for gateways."""

from django.contrib import admin
from django.urls import include, path
from rapidsms.backends.http.views import GenericHttpBackendView

from rapidsms_db_router.gateways.kannel.views import DeliveryReportView, KannelBackendView
from rapidsms_db_router.operations.views.metrics import MetricsView

gateway = GenericHttpBackendView.as_view(
    backend_name="phones", params={"identity_name": "from", "text_name": "text"}
)

urlpatterns = [
    path("accounts/", include("rapidsms.urls.login_logout")),
    path("admin/", admin.site.urls),
    path("metrics", MetricsView.as_view(secret="of the scraper"), name="router-metrics"),
    path("operations/", include("rapidsms_db_router.operations.urls")),
    path("gateway/", gateway),
    path("kannel/", KannelBackendView.as_view(backend_name="phones")),
    path("kannel/report/", DeliveryReportView.as_view(), name="kannel-delivery-report"),
]
