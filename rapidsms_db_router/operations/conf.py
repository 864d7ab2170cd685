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


def retention() -> dict[str, Any]:
    """Return ``DB_ROUTER_RETENTION``: days by period, and the name of archives as ``"archive"``.

    Empty if a project sets none: all is kept for ever.
    """
    return dict(getattr(settings, "DB_ROUTER_RETENTION", None) or {})
