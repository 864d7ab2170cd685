"""``manage.py prune_messages``: erase and delete what is older than the settings say."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rapidsms_db_router.management.progress import Progress
from rapidsms_db_router.models import Message
from rapidsms_db_router.operations import conf
from rapidsms_db_router.operations.bisecting import key_since
from rapidsms_db_router.operations.retention import archives, auditing
from rapidsms_db_router.operations.retention.rules import AUDIT, PERIODS, Rules
from rapidsms_db_router.operations.retention.sweeping import Pruning


class Command(BaseCommand):
    """Erases old texts, and deletes old messages and audit entries, as the settings say."""

    help = "Erases and deletes what is older than DB_ROUTER_RETENTION says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what is to be done."""
        parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")
        parser.add_argument(
            "--archive",
            metavar="NAME",
            help="first write the deleted rows to archives of this name",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Look through all messages that are old enough."""
        settings = conf.retention()
        days = {period: settings[period] for period in PERIODS if period in settings}
        if not days and AUDIT not in settings:
            raise CommandError(
                "DB_ROUTER_RETENTION has no days: set 'text', 'delivered', 'failed' or 'audit'."
            )
        name = options["archive"] or settings.get("archive")
        if name is not None and not archives.NAME.fullmatch(name):
            raise CommandError(
                f"--archive {name!r} is no name: use up to 50 letters, digits, '-' and '_'."
            )
        if name and not options["dry_run"] and not archives.is_private():
            self.stderr.write(
                "Archives go to the default storage, which a web server may show to anybody:"
                f" set STORAGES[{archives.ALIAS!r}]."
            )
        if days:
            self._prune(days, name, dry_run=options["dry_run"])
        if AUDIT in settings:
            self._prune_audit(settings[AUDIT], dry_run=options["dry_run"])

    def _prune(self, days: dict[str, int], name: str | None, *, dry_run: bool) -> None:
        rules = Rules.of(days)
        pruning = Pruning(rules, archives.Archive(name) if name else None, dry_run=dry_run)
        end = 0 if rules.latest is None else key_since(rules.latest, Message)
        old = Message.objects.filter(pk__lt=end).count() if end else 0
        progress = Progress(self.stdout, "looked at", old)
        if old:
            pruning.sweep(0, end, tell=progress.add)
        progress.end()
        self._report(pruning)

    def _prune_audit(self, days: int, *, dry_run: bool) -> None:
        pruning = auditing.AuditPruning(auditing.date_of(days), dry_run=dry_run)
        pruning.sweep()
        will = "would be " if dry_run else ""
        self.stdout.write(
            f"{pruning.entries:,} audit entries and {pruning.actions:,} bulk actions {will}deleted."
        )

    def _report(self, pruning: Pruning) -> None:
        will = "would be " if pruning.dry_run else ""
        self.stdout.write(f"{pruning.blanked:,} messages {will}blanked.")
        self.stdout.write(
            f"{pruning.messages:,} messages with {pruning.transmissions:,} transmissions"
            f" {will}deleted."
        )
        if pruning.untallied:
            self.stdout.write(
                f"{pruning.untallied:,} messages stay until their hour is tallied to the end."
            )
