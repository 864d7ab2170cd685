"""``manage.py backends``: show the backends, pause and resume them."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rapidsms.models import Backend

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import operators
from rapidsms_db_router.limits.slots import InFlight, in_flight
from rapidsms_db_router.management import names
from rapidsms_db_router.models import Batch
from rapidsms_db_router.publishing import doorbells


class Command(BaseCommand):
    """Shows whether each backend is called and what waits for it; pauses and resumes them."""

    help = "Shows whether each backend is called and what waits for it; pauses and resumes them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take names of backends, and what is to be done with them."""
        several: dict[str, Any] = {"metavar": "NAME", "nargs": "+", "default": []}
        parser.add_argument("--pause", help="make no call to these backends", **several)
        parser.add_argument("--reason", default="", help="why they are paused")
        parser.add_argument("--until", metavar="DATE", help="when the pause ends, in ISO 8601")
        parser.add_argument("--resume", help="call these backends again, at once", **several)
        parser.add_argument("--limit", help="set the limits of these backends", **several)
        as_set = "or the word default, for the value of the settings"
        parser.add_argument("--rate", help=f"segments, such as 300/s, {as_set}")
        for name in ("concurrency", "max-retries"):
            parser.add_argument(f"--{name}", metavar="NUMBER", help=f"a number, {as_set}")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked for, and show how it is now."""
        paused, resumed, limited = (
            names.backends(options[name]) for name in ("pause", "resume", "limit")
        )
        until, limits = _date(options["until"]), _limits(options)
        if limits and not limited:
            raise CommandError(f"{', '.join(limits)}: say --limit and the names of backends.")
        by = names.operator("backends")
        try:
            for backend in paused:
                operators.pause(backend, by=by, reason=options["reason"], until=until)
            for backend in limited:
                operators.set_limits(backend, by=by, **limits)
        except ValueError as err:
            raise CommandError(str(err)) from err
        for backend in resumed:
            operators.resume(backend, by=by)
            doorbells.publish_outbound(backend, message_id=0)
        flying = in_flight()
        backends = Backend.objects.using(alias()).select_related("router_state")
        for backend in backends.order_by("name"):
            waiting = Batch.objects.filter(backend=backend, claim_token=None).count()
            calls = flying.get(backend.pk, InFlight())
            state = operators.describe(backend)
            self.stdout.write(
                f"{backend}: {state}; {waiting} batches waiting, {calls.calls} calls in flight,"
                f" {calls.abandoned} threads left behind"
            )


def _date(said: str | None) -> datetime.datetime | None:
    if said is None:
        return None
    try:
        date = parse_datetime(said)
    except ValueError:
        date = None
    if date is None:
        raise CommandError(f"--until is {said!r}; say a date such as 2030-12-31T08:00.")
    return timezone.make_aware(date) if settings.USE_TZ and timezone.is_naive(date) else date


def _limits(options: dict[str, Any]) -> dict[str, Any]:
    """Return the limits that were named, by name; ``default`` gives one back."""
    found = {}
    for name in operators.LIMITS:
        said = options[name]
        if said is not None:
            is_number = said.isascii() and said.isdigit()
            found[name] = None if said == "default" else int(said) if is_number else said
    return found
