"""What a list shows, as CSV or as JSON lines, streamed."""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max

from rapidsms_db_router.choices import Direction, in_words
from rapidsms_db_router.identities import masked
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.models.transmission import BACKEND, IDENTITY
from rapidsms_db_router.operations import audit
from rapidsms_db_router.operations.listing import Wanted, searched
from rapidsms_db_router.operations.models import AuditEntry
from rapidsms_db_router.operations.reasons import reason_of

#: Primary keys that one statement looks through.
CHUNK = 5000
#: By the name of a column of the export: where it comes from.
COLUMNS: dict[str, Any] = {
    "transmission": "pk",
    "message": "message_id",
    "reply_to": "message__in_response_to_id",
    "date": "date",
    "direction": "message__direction",
    "backend": BACKEND,
    "number": IDENTITY,
    "name": "connection__contact__name",
    "text": "message__text",
    "segments": "message__segments",
    "status": "status",
    "next_try": "next_try",
    "error": "error",
    "sent": "sent",
    "delivered": "delivered",
    "attempts": "attempts",
    "gateway_id": "external_id",
}
#: What a spreadsheet takes for a formula.
FORMULA = frozenset("=+-@\t\r")
PLAIN_NUMBER = re.compile(r"[+-]?\d+")

Row = dict[str, Any]


def rows(wanted: Wanted, *, may_see: bool, by: str) -> Iterator[Row]:
    """Yield what a list shows, the newest first; keep that it was exported.

    What is kept says how many rows, once they were written: ``None`` if that was broken off.

    :param wanted: what the list shows.
    :param may_see: whether numbers and texts are told; else they are masked.
    :param by: who exports them.
    """
    filters = {"personal": may_see, **{k: v for k, v in vars(wanted).items() if v}}
    if wanted.search:
        filters["search"] = masked(wanted.search)
    entry = audit.keep(
        kind="export", by=by, subject=None, count=None, before={}, after=filters, reason=""
    )
    count = 0
    for count, row in enumerate(_rows(wanted, may_see=may_see), start=1):  # noqa: B007
        yield row
    AuditEntry.objects.filter(pk=entry.pk).update(count=count)


def _rows(wanted: Wanted, *, may_see: bool) -> Iterator[Row]:
    for several in _chunks(wanted):
        found = wanted.of(several).order_by("-pk")
        for values in found.values_list(*COLUMNS.values()):
            row = dict(zip(COLUMNS, values, strict=True))
            row["status"] = in_words(row["status"], retrying=row["next_try"] is not None)
            row["direction"] = Direction(row["direction"]).label
            if not may_see:
                row |= {"number": masked(row["number"]), "text": None, "name": None}
                row["error"] = reason_of(row["error"])
            yield row


def as_csv(found: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a CSV file; no cell of it is a formula."""
    write = csv.writer(_Echo()).writerow
    yield write(COLUMNS)
    for row in found:
        yield write([_cell(value) for value in row.values()])


def as_json_lines(found: Iterable[Row]) -> Iterator[str]:
    """Yield one JSON object for each row, in a line of its own."""
    encode = json.JSONEncoder(default=DjangoJSONEncoder().default, ensure_ascii=False).encode
    for row in found:
        yield encode(row) + "\n"


#: By format: the MIME type, and what makes the lines.
FORMATS: dict[str, tuple[str, Callable[[Iterable[Row]], Iterator[str]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "jsonl": ("application/x-ndjson", as_json_lines),
}


class _Echo:
    """A file whose ``write`` returns what is written."""

    def write(self, line: str) -> str:
        return line


def _chunks(wanted: Wanted) -> Iterator[Any]:
    if wanted.search:
        ids = sorted(searched(wanted.search), reverse=True)
        for start in range(0, len(ids), CHUNK):
            yield Transmission.objects.filter(pk__in=ids[start : start + CHUNK])
        return
    rest = Transmission.objects.all()
    # from the newest that is left on: keys have gaps, as behind old messages that were imported
    while newest := rest.aggregate(newest=Max("pk"))["newest"]:
        rest = Transmission.objects.filter(pk__lte=newest - CHUNK)
        yield Transmission.objects.filter(pk__gt=newest - CHUNK, pk__lte=newest)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        harmful = value and value[0] in FORMULA and not PLAIN_NUMBER.fullmatch(value)
        return "'" + value if harmful else value
    return value.isoformat(" ", "seconds") if isinstance(value, datetime.datetime) else value
