"""URLs of the tests: the admin, and the way in for gateways."""

from django.contrib import admin
from django.urls import path
from rapidsms.backends.http.views import GenericHttpBackendView

gateway = GenericHttpBackendView.as_view(
    backend_name="phones", params={"identity_name": "from", "text_name": "text"}
)

urlpatterns = [path("admin/", admin.site.urls), path("gateway/", gateway)]
