"""System checks of the operations app."""

from __future__ import annotations

import math
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def check_alerts(**_: Any) -> list[CheckMessage]:
    """Check when incidents are mailed.

    E001
        ``DB_ROUTER_ALERT_AFTER`` is neither ``None`` nor a number of seconds from 0 on.
    """
    value = getattr(settings, "DB_ROUTER_ALERT_AFTER", None)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (is_number and value >= 0 and math.isfinite(value)):
        return []
    return [
        Error(
            f"DB_ROUTER_ALERT_AFTER is {value!r}.",
            hint="Set it to a number of seconds, or to None if nobody is to be mailed.",
            id="rapidsms_db_router_operations.E001",
        )
    ]
