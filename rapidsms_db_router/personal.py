"""Who may open the pages of the operations app, and who may see numbers and texts there."""

from __future__ import annotations

from typing import Any

from django.apps import apps

OPERATIONS = "rapidsms_db_router.operations"
#: The permission without which none of its pages opens.
VIEW = "rapidsms_db_router.view_message"
SEE = "rapidsms_db_router_operations.see_personal"


def may_see(user: Any) -> bool:
    """Return whether a user may see numbers and texts; anybody may without the operations app."""
    return not apps.is_installed(OPERATIONS) or bool(user.has_perm(SEE))
