"""``manage.py backends``: show the backends, pause and resume them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Sum
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, SlotLease
from rapidsms_db_router.publishing import doorbells


class Command(BaseCommand):
    """Shows whether each backend is called and what waits for it; pauses and resumes them."""

    help = "Shows whether each backend is called and what waits for it; pauses and resumes them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take ``--pause`` and ``--resume`` with names."""
        parser.add_argument("--pause", metavar="NAME", nargs="+", default=[], help="send nothing")
        parser.add_argument("--resume", metavar="NAME", nargs="+", default=[], help="send again")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked for, and show how it is now."""
        paused, resumed = (list(map(_backend, options[name])) for name in ("pause", "resume"))
        for backend in paused:
            operators.pause(backend)
        for backend in resumed:
            operators.resume(backend)
            doorbells.publish_outbound(backend, message_id=0)
        backends = Backend.objects.using(alias()).select_related("router_state")
        for backend in backends.order_by("name"):
            waiting = Batch.objects.filter(backend=backend, claim_token=None).count()
            leases = SlotLease.objects.filter(backend=backend, expires_at__gt=now())
            calls = leases.aggregate(n=Sum("in_flight"), left=Sum("abandoned"))
            state = operators.describe(backend)
            self.stdout.write(
                f"{backend}: {state}; {waiting} batches waiting, {calls['n'] or 0} calls in flight,"
                f" {calls['left'] or 0} threads left behind"
            )


def _backend(name: str) -> Backend:
    backends = Backend.objects.using(alias())
    try:
        return backends.get(name=name)
    except Backend.DoesNotExist:
        known = ", ".join(backends.order_by("name").values_list("name", flat=True))
        raise CommandError(f"There is no backend {name!r}; there are: {known or 'none'}.") from None
