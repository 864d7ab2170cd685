"""The only reader of this app's settings; each is read anew on every use."""

from __future__ import annotations

from typing import Any

from django.conf import settings

#: The value of ``DB_ROUTER_ALERT_AFTER`` where a project sets none.
ALERT_AFTER = 300


def alert_after() -> float | None:
    """Return for how many seconds an incident lasts until it is mailed; ``None``: never mailed."""
    seconds: Any = getattr(settings, "DB_ROUTER_ALERT_AFTER", ALERT_AFTER)
    return None if seconds is None else float(seconds)
