"""URLs of the tests: the admin, and the ways in for gateways."""

from django.contrib import admin
from django.urls import path
from rapidsms.backends.http.views import GenericHttpBackendView

from rapidsms_db_router.gateways.kannel.views import DeliveryReportView, KannelBackendView

gateway = GenericHttpBackendView.as_view(
    backend_name="phones", params={"identity_name": "from", "text_name": "text"}
)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("gateway/", gateway),
    path("kannel/", KannelBackendView.as_view(backend_name="phones")),
    path("kannel/report/", DeliveryReportView.as_view(), name="kannel-delivery-report"),
]
