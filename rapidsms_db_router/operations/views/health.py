"""Health checks for load balancers and container platforms."""

from __future__ import annotations

from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import View

from rapidsms_db_router.models import Message


class LiveView(View):
    """Answers 200 as long as the process can answer."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse({"status": "alive"})


class ReadyView(View):
    """Answers 200 if messages can be stored, else 503: the database or its tables are not there.

    A broker, a gateway or a worker that is away is no reason to send nobody here: messages are
    stored all the same.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        try:
            Message.objects.order_by("pk").values("pk").first()
        except Error as exc:
            return JsonResponse({"status": "not ready", "error": type(exc).__name__}, status=503)
        return JsonResponse({"status": "ready"})
