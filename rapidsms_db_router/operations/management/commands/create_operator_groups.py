"""``manage.py create_operator_groups``: make the groups of those who see, and of those who act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

ROUTER, OPERATIONS = "rapidsms_db_router", "rapidsms_db_router_operations"
#: By app, what viewers may do: they see pages and lists, with numbers and texts masked.
VIEWERS = {
    ROUTER: (
        "view_message",
        "view_transmission",
        "view_gateway",
        "view_bulkaction",
        "view_earlyreport",
    ),
}
#: What operators may do besides.
OPERATORS = {
    ROUTER: (
        "resend_message",
        "reprocess_message",
        "cancel_message",
        "pause_message",
        "pause_backend",
    ),
    OPERATIONS: ("see_personal", "send", "broadcast", "export"),
}


class Command(BaseCommand):
    """Makes the groups ``viewers`` and ``operators``, with their permissions.

    A group that exists gets what it lacks, and loses nothing. A second run changes nothing.
    """

    help = "Makes the groups viewers and operators, with their permissions."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them, and say what was added."""
        viewers = _permissions(VIEWERS)
        groups = {"viewers": viewers, "operators": [*viewers, *_permissions(OPERATORS)]}
        with transaction.atomic():
            for name, permissions in groups.items():
                group, _ = Group.objects.get_or_create(name=name)
                known = set(group.permissions.values_list("pk", flat=True))
                new = [each for each in permissions if each.pk not in known]
                group.permissions.add(*new)
                self.stdout.write(f"{name}: {len(new)} permissions added")


def _permissions(wanted: Mapping[str, tuple[str, ...]]) -> list[Permission]:
    """Return permissions by the app and name of each.

    :raises CommandError: if one is not there.
    """
    found: list[Permission] = []
    for app, names in wanted.items():
        rows = {
            each.codename: each
            for each in Permission.objects.filter(content_type__app_label=app, codename__in=names)
        }
        if missing := [name for name in names if name not in rows]:
            raise CommandError(f"There is no permission {missing[0]!r}: run manage.py migrate.")
        found += rows.values()
    return found
