"""What the commands for many rows share: their filters, and how they tell what they do."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Exists, OuterRef, QuerySet

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.management import dates, names
from rapidsms_db_router.models import BulkAction, Message, Transmission

#: The largest primary key that every database takes.
LARGEST = 2**63 - 1
#: How many rows are done before that is told.
PROGRESS = 10_000


class BulkCommand(BaseCommand):
    """Does something to all rows that its filters choose."""

    #: A :class:`~rapidsms_db_router.models.BulkAction.Kind`.
    kind: str
    #: Its rows.
    model: type[Message | Transmission] = Message
    #: Whether its rows have an error.
    errored = True
    #: How many rows were done when that was last told.
    _told = 0

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the filters, ``--all`` and ``--dry-run``."""
        add = parser.add_argument
        add("--backend", metavar="NAME", nargs="+", default=[], help="only rows of these backends")
        add("--since", metavar="DATE", help="only rows stored at this date or later (ISO 8601)")
        add("--until", metavar="DATE", help="only rows stored before this date (ISO 8601)")
        add("--message", metavar="ID", nargs="+", default=[], help="only rows of these messages")
        if self.errored:
            add("--error", metavar="TEXT", help="only rows whose error contains this text")
        add("--all", action="store_true", help="all rows, if there is no other filter")
        add("--dry-run", action="store_true", help="only count, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Choose the rows, tell their number, do it, and tell what was done."""
        rows = self.filtered(options)
        if options["dry_run"]:
            count = bulk_actions.chosen(self.kind, rows).count()
            self.stdout.write(f"{bulk_actions.describe(self.kind, count)} Nothing is changed now.")
            return
        action = bulk_actions.prepare(self.kind, rows, names.operator(f"{self.kind}_messages"))
        self.stdout.write(bulk_actions.describe(self.kind, action.total))
        try:
            bulk_actions.run_here(action, self._tell)
        except KeyboardInterrupt:
            bulk_actions.stop(action)
            raise CommandError(
                f"Stopped after {action.handled:,} of {action.total:,}; the others are as before."
            ) from None
        self.stdout.write(f"Done: {action.changed:,} of {action.total:,}.")

    def filtered(self, options: dict[str, Any]) -> QuerySet[Any]:
        """Return the rows that the filters choose.

        :raises CommandError: for a value that makes no sense, and without any filter.
        """
        rows: QuerySet[Any] = self.model.objects.all()
        of_transmission = self.model is Transmission
        filters = ("backend", "since", "until", "message", "error")
        given = {name: options[name] for name in filters if options.get(name) not in (None, [])}
        if bool(given) == bool(options.get("all")):
            raise CommandError("Give either --all or at least one filter; see --help.")
        if "backend" in given:
            backends = names.backends(_several(given["backend"]))
            if of_transmission:
                rows = rows.filter(connection__backend__in=backends)
            else:
                theirs = Transmission.objects.filter(connection__backend__in=backends)
                rows = rows.filter(Exists(theirs.filter(message=OuterRef("pk"))))
        if "message" in given:
            ids = [_key(value) for value in _several(given["message"])]
            rows = rows.filter(**{"message__in" if of_transmission else "pk__in": ids})
        since, until = (
            dates.of_option(name, given[name]) if name in given else None
            for name in ("since", "until")
        )
        if since and until and since >= until:
            raise CommandError(f"--since {given['since']} is not before --until {given['until']}.")
        if since:
            rows = rows.filter(date__gte=since)
        if until:
            rows = rows.filter(date__lt=until)
        if "error" in given:
            rows = rows.filter(error__icontains=_text("--error", given["error"]))
        return rows

    def _tell(self, action: BulkAction) -> None:
        if action.handled - self._told >= PROGRESS and action.handled < action.total:
            self._told = action.handled
            self.stdout.write(f"{action.handled:,} of {action.total:,}")


def _several(value: Any) -> list[Any]:
    """Return one value, or several, as a list: code that calls the command may give either."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _key(value: Any) -> int:
    said = str(value)
    if not (said.isascii() and said.isdigit() and len(said) < 20 and int(said) <= LARGEST):
        raise CommandError(f"--message {value!r} is no id of a message; give a positive integer.")
    return int(said)


def _text(option: str, value: Any) -> str:
    said = str(value)
    try:
        said.encode()
    except UnicodeEncodeError:
        pass
    else:
        if said and "\0" not in said:
            return said
    raise CommandError(f"{option} {value!r} is no text that an error could contain.")
