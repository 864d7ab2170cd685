"""``manage.py reprocess_messages``: run the apps on errored inbound messages again."""

from __future__ import annotations

from rapidsms_db_router.management.bulk_command import BulkCommand
from rapidsms_db_router.models import BulkAction


class Command(BulkCommand):
    """Has the apps run on errored inbound messages again."""

    help = "Has the apps run on errored inbound messages again."
    kind = BulkAction.Kind.REPROCESS
