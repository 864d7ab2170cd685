"""URLs of the pages: ``path("operations/", include("rapidsms_db_router.operations.urls"))``."""

from django.urls import path, re_path

from rapidsms_db_router.operations.views.actions import ActionsView, ActionView
from rapidsms_db_router.operations.views.backend import BackendView, ResumeView
from rapidsms_db_router.operations.views.broadcast import BroadcastView
from rapidsms_db_router.operations.views.broadcasts import BroadcastsView, DraftView, WriteView
from rapidsms_db_router.operations.views.failures import FailuresView
from rapidsms_db_router.operations.views.health import LiveView, ReadyView
from rapidsms_db_router.operations.views.messages import ConversationView, ExportView, MessagesView
from rapidsms_db_router.operations.views.operations import OperationsView
from rapidsms_db_router.operations.views.waiting import WaitingGroupView, WaitingView

urlpatterns = [
    path("", OperationsView.as_view(), name="router-operations"),
    path("messages/", MessagesView.as_view(), name="router-messages"),
    re_path(r"^messages\.(?P<format>csv|jsonl)$", ExportView.as_view(), name="router-export"),
    path("messages/of/<int:pk>/", ConversationView.as_view(), name="router-conversation"),
    path("broadcasts/", BroadcastsView.as_view(), name="router-broadcasts"),
    path("broadcasts/write/", WriteView.as_view(), name="router-write"),
    path("broadcasts/draft/<int:pk>/", DraftView.as_view(), name="router-draft"),
    path("broadcasts/<int:pk>/", BroadcastView.as_view(), name="router-broadcast"),
    path("backends/<int:pk>/", BackendView.as_view(), name="router-backend"),
    path("backends/<int:pk>/resume/", ResumeView.as_view(), name="router-resume"),
    path("waiting/", WaitingView.as_view(), name="router-waiting"),
    path(
        "waiting/<int:backend>/<slug:why>/",
        WaitingGroupView.as_view(),
        name="router-waiting-group",
    ),
    path("failures/", FailuresView.as_view(), name="router-failures"),
    path("actions/", ActionsView.as_view(), name="router-actions"),
    path("actions/<int:pk>/", ActionView.as_view(), name="router-action"),
    path("health/live", LiveView.as_view(), name="router-live"),
    path("health/ready", ReadyView.as_view(), name="router-ready"),
]
