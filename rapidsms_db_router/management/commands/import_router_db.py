"""``manage.py import_router_db``: take over the messages of ``rapidsms.router.db``."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from rapidsms_db_router import reverse_names
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.management import dates
from rapidsms_db_router.management.progress import Progress
from rapidsms_db_router.moving_in import comparing, moving, tables, unfinished
from rapidsms_db_router.moving_in.comparing import Comparison

HOLD, SEND, MARK = "hold", "send", "mark"
#: What is older than this is not sent, unless ``--since`` says so.
RECENT = datetime.timedelta(days=1)
WORDS = {"db_message": "messages", "db_transmission": "transmissions"}


class Command(BaseCommand):
    """Takes over the messages of ``rapidsms.router.db``; its tables are left as they are."""

    help = "Takes over the messages of rapidsms.router.db; its tables are left as they are."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what becomes of unfinished messages, ``--dry-run`` and ``--verify``."""
        only = parser.add_mutually_exclusive_group()
        only.add_argument("--dry-run", action="store_true", help="only count, change nothing")
        only.add_argument("--verify", action="store_true", help="only compare, change nothing")
        parser.add_argument(
            "--unfinished",
            choices=(HOLD, SEND, MARK),
            default=HOLD,
            help="messages that the old router has not finished: hold, the default, leaves them"
            " Queued and unsent; send has them sent or processed; mark makes them Errored",
        )
        parser.add_argument(
            "--since",
            metavar="DATE",
            help="with --unfinished send: older messages become Errored (ISO 8601); default: a day",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Move, compare, and tell of both."""
        since = self._since(options)
        try:
            if options["dry_run"]:
                tables.check()
                self._tell_of_rows()
                return
            if options["verify"]:
                tables.check()
                last = {old: tables.last_key(old) for old in tables.MODELS}
            else:
                last = moving.prepare()
                self._move(last)
            compared = self._compare(last)
            if since is not None or options["unfinished"] == MARK:
                self._settle(since)
        except (tables.NoOldTables, tables.OtherRows) as err:
            raise CommandError(str(err)) from err
        except KeyboardInterrupt:
            raise CommandError("Stopped; the next run goes on from here.") from None
        self._conclude(compared)

    def _since(self, options: dict[str, Any]) -> datetime.datetime | None:
        """Return from when on what is unfinished is to be sent, if it is.

        :raises CommandError: where the old router may still send it.
        """
        if options["since"] is not None and options["unfinished"] != SEND:
            raise CommandError("--since needs --unfinished send.")
        if options["unfinished"] == HOLD:
            return None
        if apps.is_installed(reverse_names.OLD_APP):
            raise CommandError(
                f"--unfinished {options['unfinished']}: the tasks of the old router may still send"
                f" these messages. Stop its workers, and remove {reverse_names.OLD_APP!r} from"
                " INSTALLED_APPS first."
            )
        if options["dry_run"] or options["verify"] or options["unfinished"] == MARK:
            return None
        if options["since"] is None:
            return now() - RECENT
        return dates.of_option("since", options["since"])

    def _tell_of_rows(self) -> None:
        for old, words in WORDS.items():
            known = tables.count_by_status(old)
            said = ", ".join(f"{letter} {number:,}" for letter, number in known.items())
            self.stdout.write(f"{sum(known.values()):,} {words} in {old}: {said or 'none'}")
            here = tables.count_here(old)
            self.stdout.write(f"{here:,} of them are here.")
        self.stdout.write("Nothing is changed now.")

    def _move(self, last: dict[str, int]) -> None:
        progress = Progress(self.stdout, "copied", sum(map(tables.count, WORDS)))
        moved = moving.move(last, progress.add)
        progress.end()
        for old, words in WORDS.items():
            self.stdout.write(f"{moved.copied.get(old, 0):,} {words} copied")
        if moved.followed:
            self.stdout.write(f"{moved.followed:,} rows followed, which had changed since")
        if moved.left_behind:
            self.stdout.write(f"{moved.left_behind:,} rows left behind: no column holds them")

    def _compare(self, last: dict[str, int]) -> dict[str, Comparison]:
        progress = Progress(self.stdout, "compared", sum(map(tables.count, WORDS)))
        compared = {old: comparing.compare(old, last[old], progress.add) for old in WORDS}
        progress.end()
        line = "{:13} {:>3} {:>5} {:>13} {:>24} {:>24}"
        self.stdout.write(line.format("", "old", "here", "rows", "checksum old", "checksum here"))
        for old, comparison in compared.items():
            for (was, here), cell in sorted(comparison.cells.items(), key=str):
                sums = ("", "") if here is None else (cell.old, cell.here)
                cells = WORDS[old], was, here or "-", f"{cell.rows:,}", *sums
                self.stdout.write(line.format(*cells).rstrip())
            if comparison.cleaned:
                self.stdout.write(f"{comparison.cleaned:,} {WORDS[old]} were cleaned or cut")
            if comparison.doubles:
                self.stdout.write(
                    f"{comparison.doubles:,} {WORDS[old]} are not here: another one of the same"
                    " message to the same connection is"
                )
        return compared

    def _settle(self, since: datetime.datetime | None) -> None:
        number = unfinished.count()
        progress = Progress(self.stdout, "settled", number)
        if since is None:
            done = unfinished.mark(progress.add)
        else:
            done = unfinished.send(since, progress.add)
        progress.end()
        self.stdout.write(
            f"{number:,} unfinished messages: {done['queued']:,} transmissions queued,"
            f" {done['given up']:,} given up"
        )

    def _conclude(self, compared: dict[str, Comparison]) -> None:
        missing = sum(each.missing for each in compared.values())
        differing = sum(each.differing for each in compared.values())
        if missing or differing:
            raise CommandError(
                f"{missing:,} old rows are not here, and {differing:,} are in groups that differ."
                " While the old router works, run the command again."
            )
        if number := unfinished.count():
            self.stdout.write(f"{number:,} unfinished messages are held: see --unfinished.")
        self.stdout.write(self.style.SUCCESS("All old rows are here."))
