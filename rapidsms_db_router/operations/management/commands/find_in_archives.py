"""``manage.py find_in_archives``: find a number in what was deleted."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rapidsms_db_router.operations.retention import archives
from rapidsms_db_router.operations.retention.archives import ArchiveError
from rapidsms_db_router.operations.retention.numbers import forms, is_one_of


class Command(BaseCommand):
    """Prints the lines of archives about a number, as JSON lines."""

    help = "Prints the lines of archives about a number, as JSON lines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the number."""
        parser.add_argument("number", help="in any notation")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read all archives."""
        wanted, found, damaged = forms(options["number"]), 0, 0
        for name in archives.names():
            try:
                archives.check(name)
            except ArchiveError as exc:
                damaged += 1
                self.stderr.write(str(exc))
            try:
                for line in archives.read(name):
                    if is_one_of(str(line.get("number") or ""), wanted):
                        found += 1
                        said = json.dumps({"archive": name, **line}, ensure_ascii=False)
                        self.stdout.write(said)
            except (OSError, EOFError, ValueError) as exc:
                self.stderr.write(f"{name} cannot be read: {type(exc).__name__}.")
        self.stderr.write(f"{found:,} lines found.")
        if damaged:
            raise CommandError(f"{damaged} archives do not fit their checksums.")
