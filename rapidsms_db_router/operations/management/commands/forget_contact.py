"""``manage.py forget_contact``: erase one person everywhere."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rapidsms_db_router.operations.retention.archives import ArchiveError
from rapidsms_db_router.operations.retention.forgetting import Person, forget


class Command(BaseCommand):
    """Cancels all messages that wait for one person, and erases the person's data."""

    help = "Cancels all messages that wait for one person, and erases the person's data."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take who is to be forgotten."""
        parser.add_argument("person", help="the id of a contact, or a number in any notation")
        parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")
        parser.add_argument("--yes", action="store_true", help="ask nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what there is, ask, and erase it."""
        try:
            person = Person(options["person"])
        except LookupError as exc:
            raise CommandError(f"{options['person']!r}: {exc}") from None
        if options["dry_run"] or not options["yes"]:
            self._report(forget(person, dry_run=True), "would be erased")
        if options["dry_run"]:
            return
        if not options["yes"] and input("Erase all of this? Type yes: ") != "yes":
            raise CommandError("Nothing was erased.")
        try:
            done = forget(person)
        except ArchiveError as exc:
            raise CommandError(
                f"{exc} Texts are erased; the contact and its numbers are not."
            ) from exc
        self._report(done, "erased")
        if done["transmissions in flight"]:
            self.stderr.write("Some were in flight: run this again once they have ended.")

    def _report(self, done: Counter[str], said: str) -> None:
        for kind, count in done.items():
            if count:
                self.stdout.write(f"{kind}: {count:,} {said}")
