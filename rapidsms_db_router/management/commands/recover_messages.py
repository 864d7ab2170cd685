"""``manage.py recover_messages``: what every worker does by itself, now."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from rapidsms_db_router import recovery
from rapidsms_db_router.acting import acted
from rapidsms_db_router.management import names


class Command(BaseCommand):
    """Finds lost work and has it done, as every worker does by itself."""

    help = "Finds messages that were lost on their way and puts them back to work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take ``--dry-run``."""
        parser.add_argument("--dry-run", action="store_true", help="only count, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Recover, and print what was found."""
        found = recovery.recover(dry_run=options["dry_run"])
        counts = found.counts()
        if not options["dry_run"]:
            by = names.operator("recover_messages")
            acted("recover", by, count=sum(counts.values()), after=counts)
        for name, count in counts.items():
            self.stdout.write(f"{name.replace('_', ' ')}: {count}")
