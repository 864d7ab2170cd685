"""URLs of the pages: ``path("operations/", include("rapidsms_db_router.operations.urls"))``."""

from django.urls import path

from rapidsms_db_router.operations.views.operations import OperationsView

urlpatterns = [
    path("", OperationsView.as_view(), name="router-operations"),
]
