"""The router of a worker's thread."""

from __future__ import annotations

import threading
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from rapidsms.router import get_router

#: RapidSMS's tests change these without the signal.
NAMES = ("RAPIDSMS_ROUTER", "RAPIDSMS_HANDLERS", "INSTALLED_APPS", "INSTALLED_BACKENDS")

_kept = threading.local()
_changes = 0


def router() -> Any:
    """Return the router of this thread, with its apps and backends.

    It is built once, and again whenever settings have changed.
    """
    made_from = _made_from()
    if getattr(_kept, "made_from", None) != made_from:
        _kept.router, _kept.made_from = get_router(), made_from
    return _kept.router


def _made_from() -> Any:
    values = {name: getattr(settings, name, None) for name in NAMES}
    # copies, since what they are of may be changed in place
    backends = {name: dict(of) for name, of in (values.pop("INSTALLED_BACKENDS") or {}).items()}
    handlers = list(values.pop("RAPIDSMS_HANDLERS") or ())
    return _changes, values, backends, handlers


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    global _changes
    _changes += 1
