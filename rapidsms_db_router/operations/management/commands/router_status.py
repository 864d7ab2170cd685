"""``manage.py router_status``: the state of the router, for people and for monitoring."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder

from rapidsms_db_router.operations import figures
from rapidsms_db_router.operations.figures import BackendFigures, Flow
from rapidsms_db_router.operations.incidents import incidents, worst


class Command(BaseCommand):
    """Shows incidents and the figures of each backend; with ``--check`` the exit status tells."""

    help = "Shows incidents, and what each backend does."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take ``--json`` and ``--check``."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--check",
            action="store_true",
            help="end with 0 if all is well, 1 for a warning and 2 for a critical incident, as"
            " monitoring plug-ins do",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what there is to say; with ``--check`` end with the exit status."""
        found = figures.backends()
        said = incidents(found)
        severity = worst(said)
        if options["json"]:
            status = {
                "status": severity.name,
                "incidents": [
                    {
                        "code": each.code,
                        "severity": each.severity.name,
                        "backend": each.backend,
                        "sentence": each.sentence,
                    }
                    for each in said
                ],
                "backends": {each.backend.name: _as_json(each) for each in found},
                "tallied_at": figures.tallied_at(),
            }
            self.stdout.write(json.dumps(status, cls=DjangoJSONEncoder, indent=2))
        else:
            first = "; ".join(each.sentence for each in said) or "no incident"
            self.stdout.write(f"{severity.name}: {first}")
            for each in found:
                self.stdout.write(_line(each))
        if options["check"] and severity:
            sys.exit(severity)


def _line(each: BackendFigures) -> str:
    return (
        f"{each.backend.name}: {each.state}; {each.waiting.ready} waiting,"
        f" {each.waiting.later} later, {each.in_flight.calls} calls in flight;"
        f" last day {each.day.sent} sent, {each.day.delivered} delivered, {each.day.failed} failed"
    )


def _as_json(each: BackendFigures) -> dict[str, Any]:
    return {
        "state": each.state,
        "paused": each.is_paused,
        "out_of_order": each.is_out_of_order,
        "waiting": each.waiting.ready,
        "waiting_later": each.waiting.later,
        "waiting_since": each.waiting.since,
        "calls_in_flight": each.in_flight.calls,
        "threads_left_behind": each.in_flight.abandoned,
        "senders": each.in_flight.senders,
        "last_hour": _flow(each.hour),
        "last_day": _flow(each.day),
    }


def _flow(flow: Flow) -> dict[str, Any]:
    return {
        "sent": flow.sent,
        "delivered": flow.delivered,
        "failed": flow.failed,
        "waiting": flow.waiting,
        "delivery_rate": flow.delivery_rate,
    }
