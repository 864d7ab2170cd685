"""``manage.py act``: what happens in the project, through whatever router it has."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.utils.timezone import now
from rapidsms.models import Connection
from rapidsms.router import lookup_connections, receive, send


class Command(BaseCommand):
    """Receives or sends messages, or tells of those that are stored."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what")
        parser.add_argument("values", nargs="*")

    def handle(self, what: str, values: list[str], **_: Any) -> None:
        getattr(self, what)(*values)

    def receive(self, word: str, first: str, last: str) -> None:
        """Receive texts with these numbers, each from one of 20 people."""
        people = lookup_connections("gateway", [f"+1{number:04}" for number in range(20)])
        for number in range(int(first), int(last)):
            receive(f"{word} {number}", people[number % 20])

    def send(self, text: str, start: str, count: str) -> None:
        """Send a text to so many numbers that begin alike."""
        numbers = [f"{start}{number:04}" for number in range(int(count))]
        send(text, lookup_connections("gateway", numbers))

    def deliver(self, text: str) -> None:
        """Note that a text was delivered, as the project's view of delivery reports does."""
        message = apps.get_model("db", "Message").objects.get(text=text, direction="O")
        message.transmissions.filter(status="S").update(status="D", delivered=now())
        message.set_status()

    def tell(self, label: str) -> None:
        """Write how many messages and transmissions have each status, and the texts by key."""
        found: dict[str, Any] = {}
        for name in ("Message", "Transmission"):
            rows = apps.get_model(label, name).objects.order_by("pk")
            found[name] = Counter(rows.values_list("status", flat=True))
        messages = apps.get_model(label, "Message").objects.order_by("pk")
        found["texts"] = list(messages.values_list("pk", "direction", "text", "status"))
        found["history"] = Connection.objects.filter(transmissions__isnull=False).count()
        self.stdout.write(json.dumps(found))
