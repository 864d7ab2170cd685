"""Pages of the demo, and where its gateway posts what people send in."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from rapidsms.backends.http.views import GenericHttpBackendView

from demo.health.forms import SmsForm

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="httptester-index")),
    path("accounts/", include("rapidsms.urls.login_logout")),
    path("admin/", admin.site.urls),
    path("httptester/", include("rapidsms.contrib.httptester.urls")),
    path("sms/", GenericHttpBackendView.as_view(backend_name="gateway", form_class=SmsForm)),
]
