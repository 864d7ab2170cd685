"""One outbound message: how far it has come, to whom; pausing, cancelling and repeating it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from rapidsms_db_router import bulk_actions, personal
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.models import Batch, BulkAction, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.message import has_expired
from rapidsms_db_router.operations import audit, listing
from rapidsms_db_router.operations.broadcasts import progress
from rapidsms_db_router.operations.listing import ROWS
from rapidsms_db_router.operations.views.base import OperatorsPage
from rapidsms_db_router.operations.views.messages import primary_key
from rapidsms_db_router.outbound import pausing

#: The permission to pause a message and to have it go on.
PAUSE = "rapidsms_db_router.pause_message"
CANCEL = bulk_actions.permission_for(BulkAction.Kind.DISCARD)
RESEND = bulk_actions.permission_for(BulkAction.Kind.RESEND)
#: By what is asked for the permission that it needs.
NEEDED = {"pause": PAUSE, "go_on": PAUSE, "cancel": CANCEL, "repeat": RESEND}


class BroadcastView(OperatorsPage):
    """One outbound message, a broadcast or one to a few: its recipients, and their statuses."""

    template_name = "rapidsms_db_router/operations/broadcast.html"
    menu = "broadcasts"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        message, user = _message(kwargs["pk"]), self.request.user
        told = progress.progress(message)
        after = primary_key(self.request.GET.get("after")) or 0
        rows = listing.recipients(message, after, ROWS + 1)
        return super().get_context_data(
            message=message,
            progress=told,
            failed=sum(each.count for each in told.reasons if not each.given_up),
            expired=has_expired(message),
            rows=rows[:ROWS],
            after=rows[ROWS - 1].connection_id if len(rows) > ROWS else None,
            history=audit.of({"message": [message.pk]}),
            may_see=personal.may_see(user),
            may={asked: user.has_perm(permission) for asked, permission in NEEDED.items()},
            **kwargs,
        )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Pause it, have it go on, or choose whom to cancel it for, or to send it again."""
        asked = request.POST.get("do", "")
        if asked not in NEEDED:
            return HttpResponse(_("This action is not known."), status=400)
        if not request.user.has_perm(NEEDED[asked]):
            return self.handle_no_permission()
        message, user = _message(pk), request.user.get_username()
        if asked == "pause":
            if not pausing.pause(pk, by=user):
                messages.info(request, _("It was paused already."))
            return redirect(request.path)
        if asked == "go_on":
            if not pausing.go_on(pk, by=user):
                messages.info(request, _("It was not paused."))
            return redirect(request.path)
        if asked == "cancel":
            # nobody gets it while the operator looks at the number
            was_running = pausing.pause(pk, by=user)
            action = bulk_actions.prepare("discard", Batch.objects.filter(message=pk), user)
            if was_running and not action.total:
                pausing.go_on(pk, by=user)
        else:
            ids = progress.failed(message, request.POST.get("reason"))
            rows = Transmission.objects.filter(among(ids)) if ids else Transmission.objects.none()
            action = bulk_actions.prepare("resend", rows, user)
        if not action.total:
            action.delete()
            messages.warning(request, _("There is nobody left for that."))
            return redirect(request.path)
        return redirect(f"{reverse('router-action', args=[action.pk])}?broadcast={pk}")


def _message(pk: int) -> Message:
    rows = Message.objects.filter(direction=Direction.OUTGOING).select_related("broadcast")
    found: Message = get_object_or_404(rows, pk=pk)
    return found
