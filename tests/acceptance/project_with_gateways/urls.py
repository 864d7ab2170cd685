"""How gateways, staff and the test talk to the project."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from rapidsms.backends.database.models import BackendMessage
from rapidsms.backends.http.views import GenericHttpBackendView
from rapidsms.backends.vumi.views import VumiBackendView

from tests.acceptance.project import urls


def backend_messages(request: HttpRequest) -> JsonResponse:
    """Tell what the database backends were given."""
    columns = "name", "direction", "identity", "text"
    return JsonResponse(list(BackendMessage.objects.order_by("pk").values(*columns)), safe=False)


urlpatterns = [
    path("http/", GenericHttpBackendView.as_view(backend_name="http")),
    path("database/", GenericHttpBackendView.as_view(backend_name="database")),
    path("vumi/", VumiBackendView.as_view(backend_name="vumi")),
    path("httptester/", include("rapidsms.contrib.httptester.urls")),
    path("account/", include("rapidsms.urls.login_logout")),
    path("backend-messages/", backend_messages),
    path("broadcast/", urls.broadcast),
    path("messages/", urls.messages),
    path("admin/", admin.site.urls),
]
