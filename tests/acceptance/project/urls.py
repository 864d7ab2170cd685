"""How gateways, the project's staff and the test talk to the project."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import path
from rapidsms.backends.http.views import GenericHttpBackendView
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router.gateways.kannel.views import DeliveryReportView, KannelBackendView
from rapidsms_db_router.models import Message, Transmission


def broadcast(request: HttpRequest) -> JsonResponse:
    """Send a text to many numbers, given as JSON."""
    body = json.loads(request.body)
    backend, _ = Backend.objects.get_or_create(name=body.get("backend", "gateway"))
    Connection.objects.bulk_create(
        [Connection(backend=backend, identity=identity) for identity in body["identities"]],
        ignore_conflicts=True,
    )
    people = backend.connection_set.filter(identity__in=body["identities"])
    message = send(body["text"], people)
    return JsonResponse({"id": message.database_message.pk})


def messages(request: HttpRequest) -> JsonResponse:
    """Tell all that is stored, each message with its transmissions."""
    transmissions: dict[int, list[dict[str, Any]]] = defaultdict(list)
    columns = "status", "sent", "error", "next_try", "attempts", "connection__identity"
    for row in Transmission.objects.order_by("pk").values("message_id", *columns):
        transmissions[row.pop("message_id")].append(row)
    columns = "id", "direction", "text", "status", "sent", "error", "in_response_to__text"
    stored = list(Message.objects.order_by("pk").values(*columns))
    for message in stored:
        message["transmissions"] = transmissions[message["id"]]
    return JsonResponse(stored, safe=False)


urlpatterns = [
    path("sms/", GenericHttpBackendView.as_view(backend_name="gateway")),
    path("broadcast/", broadcast),
    path("messages/", messages),
    path("kannel/", KannelBackendView.as_view(backend_name="kannel")),
    path("kannel/report/", DeliveryReportView.as_view(), name="kannel-delivery-report"),
    path("admin/", admin.site.urls),
]
