"""What storms ask of the project, beside what acceptance tests do."""

from __future__ import annotations

import json
import time

from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from rapidsms_db_router.models import Batch, Message, Transmission
from tests.acceptance.project import urls


def broadcast_in_transaction(request: HttpRequest) -> HttpResponse:
    """Send as ``broadcast``, then take some time before the transaction ends one way or other."""
    body = json.loads(request.body)
    with transaction.atomic():
        answer = urls.broadcast(request)
        time.sleep(body["seconds"])
        transaction.set_rollback(not body["commit"])
    return answer


def counts(request: HttpRequest) -> JsonResponse:
    """Tell how many messages and transmissions there are, by direction and status."""
    messages = Message.objects.values_list("direction", "status").annotate(Count("pk"))
    rows = Transmission.objects.values_list("message__direction", "status").annotate(Count("pk"))
    return JsonResponse(
        {
            "messages": {direction + status: count for direction, status, count in messages},
            "transmissions": {direction + status: count for direction, status, count in rows},
            "batches": Batch.objects.count(),
        }
    )


def forget(request: HttpRequest) -> JsonResponse:
    """Forget all messages."""
    Message.objects.all().delete()
    return JsonResponse({})


urlpatterns = [
    *urls.urlpatterns,
    path("broadcast-in-transaction/", broadcast_in_transaction),
    path("counts/", counts),
    path("forget/", forget),
]
