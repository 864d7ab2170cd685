"""The router of a worker's thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from rapidsms.router import get_router

from rapidsms_db_router.errors import RouterNotBuilt
from rapidsms_db_router.worker.building import CALL_AGAIN

logger = logging.getLogger(__name__)

#: RapidSMS's tests change these without the signal.
NAMES = ("RAPIDSMS_ROUTER", "RAPIDSMS_HANDLERS", "INSTALLED_APPS", "INSTALLED_BACKENDS")

#: No router is kept for longer, in seconds: apps may have read something when they were built.
LONGEST_KEPT = 300.0

_kept = threading.local()
_changes = 0


def router() -> Any:
    """Return the router of this thread, with its apps and backends.

    It is kept for :data:`LONGEST_KEPT` seconds, unless settings change.

    :raises ~rapidsms_db_router.errors.RouterNotBuilt: if there is none for now.
    """
    made_from, moment = _made_from(), time.monotonic()
    worn = moment - getattr(_kept, "made_at", moment) > LONGEST_KEPT
    if worn or getattr(_kept, "made_from", None) != made_from:
        try:
            _kept.router = get_router()
        except Exception as exc:
            logger.error("router_not_built error=%s", type(exc).__name__)
            logger.debug("router_not_built", exc_info=True)
            reason = f"The router cannot be built: {type(exc).__name__}."
            raise RouterNotBuilt(reason, CALL_AGAIN) from exc
        _kept.made_from, _kept.made_at = made_from, moment
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
