"""The router of a worker: built once in each of its threads, and whenever settings change."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from rapidsms.router import get_router

if TYPE_CHECKING:
    from rapidsms_db_router.router import DatabaseRouter

#: RapidSMS's tests change these without the signal.
NAMES = ("RAPIDSMS_ROUTER", "RAPIDSMS_HANDLERS", "INSTALLED_APPS", "INSTALLED_BACKENDS")

_built = threading.local()
_changes = 0


def router() -> DatabaseRouter:
    """Return the router that ``RAPIDSMS_ROUTER`` names, with its apps and backends."""
    made_from = _made_from()
    if getattr(_built, "made_from", None) != made_from:
        _built.router, _built.made_from = get_router(), made_from
    found: DatabaseRouter = _built.router
    return found


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
