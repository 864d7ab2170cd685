"""The words by which the pages name what has become of a transmission."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from rapidsms_db_router import choices
from rapidsms_db_router.choices import WORDS, Direction, Status
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.models.transmission import GIVEN_UP, RETRYING

#: By word: how it is shown, and which transmissions it names.
STATES = {
    "waiting": (_(WORDS[Status.QUEUED]), Q(status=Status.QUEUED)),
    "processing": (_(WORDS[Status.PROCESSING]), Q(status=Status.PROCESSING)),
    "retrying": (_(choices.RETRYING), RETRYING),
    "sent": (_(WORDS[Status.SENT]), Q(status=Status.SENT)),
    "delivered": (_(WORDS[Status.DELIVERED]), Q(status=Status.DELIVERED)),
    "received": (_(WORDS[Status.RECEIVED]), Q(status=Status.RECEIVED)),
    "failed": (_(choices.FAILED), GIVEN_UP),
}
#: By word: the class that gives the label its colour.
LABELS = {
    "retrying": "label-warning",
    "sent": "label-info",
    "delivered": "label-success",
    "received": "label-success",
    "failed": "label-important",
}
DIRECTIONS: dict[str, Any] = {Direction.INCOMING: _("from"), Direction.OUTGOING: _("to")}

#: By kind of what a person has done: what is said of it.
ACTIONS: dict[str, Any] = {
    "pause": _("Backend paused"),
    "resume": _("Backend called again"),
    "set_limits": _("Limits changed"),
    "pause_message": _("Broadcast paused"),
    "go_on_message": _("Broadcast goes on"),
    "resend": _("Sent again"),
    "reprocess": _("Processed again"),
    "cancel": _("Cancelled"),
    "discard": _("Given up"),
    "send_now": _("Sent now"),
    "move": _("Sent at another date"),
    "stop": _("Stopped"),
    "recover": _("Lost work looked for"),
    "answer": _("Answer sent"),
    "write": _("Broadcast written"),
    "test": _("Test sent"),
    "broadcast": _("Broadcast sent"),
    "discard_draft": _("Draft discarded"),
    "export": _("Exported"),
}


def state_of(row: Transmission) -> str:
    """Return the word for a transmission's status; a key of :data:`STATES`."""
    if row.status == Status.ERRORED:
        return "failed" if row.next_try is None else "retrying"
    return {
        Status.QUEUED: "waiting",
        Status.PROCESSING: "processing",
        Status.SENT: "sent",
        Status.DELIVERED: "delivered",
        Status.RECEIVED: "received",
    }[Status(row.status)]
