"""``manage.py cancel_messages``: give up what is still to be sent of outbound messages."""

from __future__ import annotations

from rapidsms_db_router.management.bulk_command import BulkCommand
from rapidsms_db_router.models import BulkAction


class Command(BulkCommand):
    """Gives up the unsent transmissions of outbound messages."""

    help = "Gives up the unsent transmissions of outbound messages."
    kind = BulkAction.Kind.CANCEL
    errored = False
