"""System checks of the operations app."""

from __future__ import annotations

import math
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from rapidsms_db_router.operations.retention.archives import NAME
from rapidsms_db_router.operations.retention.rules import AUDIT, FEWEST_DAYS, PERIODS


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


@register
def check_retention(**_: Any) -> list[CheckMessage]:
    """Check for how long messages are kept.

    E002
        ``DB_ROUTER_RETENTION`` is no dictionary, or has a wrong key or value.
    """
    value = getattr(settings, "DB_ROUTER_RETENTION", None)
    if value is None:
        return []
    if not isinstance(value, dict):
        return [_wrong_retention(f"DB_ROUTER_RETENTION is {value!r}.")]
    found: list[CheckMessage] = []
    for key, said in value.items():
        if key in (*PERIODS, AUDIT):
            if isinstance(said, bool) or not isinstance(said, int) or said < FEWEST_DAYS:
                found.append(_wrong_retention(f"DB_ROUTER_RETENTION[{key!r}] is {said!r}."))
        elif key != "archive":
            found.append(_wrong_retention(f"DB_ROUTER_RETENTION has the key {key!r}."))
        elif not (isinstance(said, str) and NAME.fullmatch(said)):
            found.append(_wrong_retention(f"DB_ROUTER_RETENTION['archive'] is {said!r}."))
    return found


def _wrong_retention(said: str) -> CheckMessage:
    return Error(
        said,
        hint=(
            "Set 'text', 'delivered', 'failed' and 'audit' to whole numbers of days from"
            f" {FEWEST_DAYS} on, and 'archive' to a name of letters, digits, '-' and '_'. Each may"
            " be left out."
        ),
        id="rapidsms_db_router_operations.E002",
    )
