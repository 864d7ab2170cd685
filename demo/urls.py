"""Pages of the demo, and where its gateways post what people send in."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from rapidsms.backends.http.views import GenericHttpBackendView

from demo.health.forms import SmsForm
from rapidsms_db_router.gateways.kannel.views import DeliveryReportView, KannelBackendView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="httptester-index")),
    path("accounts/", include("rapidsms.urls.login_logout")),
    path("admin/", admin.site.urls),
    path("operations/", include("rapidsms_db_router.operations.urls")),
    path("httptester/", include("rapidsms.contrib.httptester.urls")),
    path("sms/", GenericHttpBackendView.as_view(backend_name="gateway", form_class=SmsForm)),
    path("kannel/", KannelBackendView.as_view(backend_name="kannel")),
    path("kannel/report/", DeliveryReportView.as_view(), name="kannel-delivery-report"),
]
