"""The project's Celery app, for Celery's own command: ``celery -A rapidsms_db_router.worker.app``.

Celery patches what gevent and eventlet need before it imports this module, and with it Django.
"""

from __future__ import annotations

import sys
from types import TracebackType

import django
from django.apps import apps
from kombu.exceptions import OperationalError

if not apps.ready:
    django.setup()

from rapidsms_db_router.worker import celery_app

app = celery_app.ensure()


def _explain(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Have a command that finds no broker end with what to do about it, not with a traceback."""
    if isinstance(error, OperationalError):
        sys.stderr.write(f"{celery_app.no_broker(app, error)}\n")
    else:
        _before(kind, error, traceback)


_before, sys.excepthook = sys.excepthook, _explain
