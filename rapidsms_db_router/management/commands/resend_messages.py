"""``manage.py resend_messages``: have errored transmissions sent again."""

from __future__ import annotations

from rapidsms_db_router.management.bulk_command import BulkCommand
from rapidsms_db_router.models import BulkAction, Transmission


class Command(BulkCommand):
    """Has errored transmissions sent again, with all their tries before them."""

    help = "Has errored transmissions sent again, with all their tries before them."
    kind = BulkAction.Kind.RESEND
    model = Transmission
