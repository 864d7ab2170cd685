"""Comparing the old tables with those of this app: counts and checksums by status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from rapidsms_db_router.db.connection import rows_of, table
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.moving_in import mapping
from rapidsms_db_router.moving_in.dialects import dialect
from rapidsms_db_router.moving_in.tables import MODELS, OtherRows, Span, spans
from rapidsms_db_router.storage.messages import LONGEST_EXTERNAL_ID


@dataclass
class Cell:
    """Old rows with one status, whose rows here have one status."""

    rows: int = 0
    #: Sums of the checksums of the old rows, and of the rows here.
    old: int = 0
    here: int = 0


@dataclass
class Comparison:
    """What has become of the rows of an old table."""

    #: By the old status and the one here, which is ``None`` for what is not here.
    cells: dict[tuple[str, str | None], Cell] = field(default_factory=lambda: defaultdict(Cell))
    #: How many rows hold what this app has no column for: it was replaced, or cut.
    cleaned: int = 0
    #: How many rows are not here, since another of the same message to the same connection is.
    doubles: int = 0

    @property
    def missing(self) -> int:
        """How many rows are not here, and have to be."""
        gone = sum(cell.rows for (_, here), cell in self.cells.items() if here is None)
        return gone - self.doubles

    @property
    def differing(self) -> int:
        """How many rows are in cells whose checksums differ."""
        there = (cell for (_, here), cell in self.cells.items() if here is not None)
        return sum(cell.rows for cell in there if cell.old != cell.here)


def compare(old: str, last: int, tell: Callable[[int], None]) -> Comparison:
    """Compare an old table with the table of this app.

    :param last: the primary key up to which.
    :param tell: is told of every chunk how many rows it had.
    """
    words, found = dialect(), Comparison()
    for span in spans(old, words.compared, last):
        missing = 0
        for was, here, rows, of_old, of_here, cleaned in rows_of(_statement(old, span)):
            cell = found.cells[was, here]
            cell.rows += rows
            cell.old += int(of_old or 0)
            cell.here += int(of_here or 0)
            found.cleaned += int(cleaned)
            missing += rows if here is None else 0
        if missing and old == "db_transmission":
            found.doubles += _doubles(span)
        tell(span.rows)
    return found


def _statement(old: str, span: Span) -> str:
    words = dialect()
    dates = {name: words.date(f"o.{name}") for name in ("date", "sent", "delivered")}
    unclean = [f"o.{name} IS NOT NULL AND {dates[name]} IS NULL" for name in dates]
    # a date that is replaced is not compared
    same = [
        ("o.id", "n.id"),
        (dates["date"], f"CASE WHEN {dates['date']} IS NOT NULL THEN n.date END"),
    ]
    if old == "db_message":
        external_id = f"SUBSTR({words.text('o.external_id')}, 1, {LONGEST_EXTERNAL_ID})"
        same += [
            ("o.direction", "n.direction"),
            (words.text("o.text"), "n.text"),
            (external_id, "n.external_id"),
            ("o.in_response_to_id", "n.in_response_to_id"),
        ]
        unclean += [words.is_unclean("o.text"), words.is_unclean("o.external_id")]
        unclean += [f"o.external_id <> {external_id}"]
    else:
        same += [("o.message_id", "n.message_id"), ("o.connection_id", "n.connection_id")]
        # what has moved on here has dates of its own
        still = f"CASE WHEN n.status = {mapping.LETTER} AND o.status IN ({mapping.FINISHED}) THEN"
        for name in ("sent", "delivered"):
            same.append((f"{still} {dates[name]} END", f"{still} n.{name} END"))
        unclean.append(f"{mapping.ERRORED} AND o.status <> 'E'")
    of_old, of_here = (words.checksum(*side) for side in zip(*same, strict=True))
    return (
        "SELECT o.status, n.status, COUNT(*),"
        f" SUM(CASE WHEN n.id IS NOT NULL THEN {of_old} END),"
        f" SUM(CASE WHEN n.id IS NOT NULL THEN {of_here} END),"
        f" SUM(CASE WHEN {' OR '.join(unclean)} THEN 1 ELSE 0 END)"
        f" FROM {old} o LEFT JOIN {table(MODELS[old])} n ON n.id = o.id"
        f" AND n.id BETWEEN {span.first} AND {span.last}"
        f" WHERE o.id BETWEEN {span.first} AND {span.last} GROUP BY o.status, n.status"
    )


def _doubles(span: Span) -> int:
    ((number,),) = rows_of(
        f"SELECT COUNT(*) FROM db_transmission o JOIN {table(Transmission)} twin"
        " ON twin.message_id = o.message_id AND twin.connection_id = o.connection_id"
        f" LEFT JOIN {table(Transmission)} n ON n.id = o.id"
        f" WHERE o.id BETWEEN {span.first} AND {span.last} AND n.id IS NULL"
    )
    return int(number)


def check_keys() -> None:
    """Check that no row of this app has the primary key of another old row.

    :raises OtherRows: naming one.
    """
    words = dialect()
    date = words.date("o.date")
    for old, other in (
        ("db_message", f"{date} IS NOT NULL AND n.date <> {date}"),
        ("db_transmission", "n.message_id <> o.message_id"),
    ):
        found = rows_of(
            f"SELECT n.id FROM {table(MODELS[old])} n JOIN {old} o ON o.id = n.id"
            f" WHERE {other} LIMIT 1"
        )
        if found:
            raise OtherRows(
                f"{table(MODELS[old])} has a row of its own with the primary key {found[0][0]},"
                f" which is that of another row of {old}."
            )
