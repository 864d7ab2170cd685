"""Copying old rows: one INSERT ... SELECT for each chunk.

A chunk is one transaction, and what is here already is left out. So a chunk that is repeated
stores nothing twice.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, transaction
from django.db.models import Model

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias, connection, rows_of, run, table
from rapidsms_db_router.db.text import clean_text, narrow_text
from rapidsms_db_router.db.transient import insist, is_transient
from rapidsms_db_router.limits import segments
from rapidsms_db_router.moving_in import mapping
from rapidsms_db_router.moving_in.dialects import dialect
from rapidsms_db_router.moving_in.tables import MODELS, Span
from rapidsms_db_router.storage.messages import LONGEST_EXTERNAL_ID, MOST_SEGMENTS

logger = logging.getLogger(__name__)

#: A text of so few characters is one segment whatever they are.
SHORT = 35
#: What MariaDB says of a character that a column cannot hold.
REFUSED_CHARACTER = 1366


def copy(old: str, span: Span) -> int:
    """Copy the rows of a span; what the database refuses row by row, with what it refuses left out.

    :param old: the old table.
    :returns: how many rows were left behind, since no column can hold them.
    """
    try:
        insist(partial(_insert, old, span))
        return 0
    except DatabaseError as err:
        if is_transient(err) or not _is_about_rows(err):
            raise
    if span.first < span.last:
        middle = (span.first + span.last) // 2
        halves = span._replace(last=middle), span._replace(first=middle + 1)
        return sum(copy(old, half) for half in halves)
    try:
        insist(partial(_insert, old, span, narrow=True))
        return 0
    except (DataError, IntegrityError) as err:
        logger.warning(
            "row_left_behind table=%s id=%s error=%s", old, span.first, type(err).__name__
        )
        return 1


def _is_about_rows(err: DatabaseError) -> bool:
    refused = bool(err.args) and err.args[0] == REFUSED_CHARACTER
    return refused or isinstance(err, (DataError, IntegrityError))


def _insert(old: str, span: Span, *, narrow: bool = False) -> None:
    """Insert the rows of a span that are not here.

    :param narrow: of one row only what every column can hold.
    """
    words = dialect()
    among = f"BETWEEN {span.first} AND {span.last}"
    values: dict[str, Any] = {"moment": now()}
    if old == "db_message":
        columns = mapping.of_message(words, _segments(span))
        counts = mapping.counts(words, f"o.message_id {among}")
        source = f"{old} o LEFT JOIN ({counts}) c ON c.message_id = o.id"
        if narrow:
            columns |= {"in_response_to_id": "NULL", **dict(_narrowed(span.first, values))}
    else:
        columns = mapping.of_transmission(words)
        # its message comes with a later run if it was stored just now
        source = f"{old} o JOIN {table(MODELS['db_message'])} m ON m.id = o.message_id"
    columns |= dict(_defaults(MODELS[old], columns, values))
    target = table(MODELS[old])
    with transaction.atomic(using=alias()):
        run(
            f"INSERT INTO {target} ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
            f" FROM {source} WHERE o.id {among} ORDER BY o.id{words.ignore.format(table=target)}",
            **values,
        )


def _segments(span: Span) -> Mapping[int, list[int]]:
    """Return the messages of a span that take several segments, by their number."""
    length = "LENGTH" if connection().vendor == "sqlite" else "CHAR_LENGTH"
    found: dict[int, list[int]] = defaultdict(list)
    for pk, text in rows_of(
        f"SELECT id, text FROM db_message WHERE id BETWEEN {span.first} AND {span.last}"
        f" AND {length}(text) > {SHORT}"
    ):
        number = segments.count(clean_text(text))
        if number > 1:
            found[min(number, MOST_SEGMENTS)].append(pk)
    return found


def _narrowed(pk: int, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the columns of one message with the text that a column of three-byte UTF-8 can hold."""
    ((text, external_id),) = rows_of(f"SELECT text, external_id FROM db_message WHERE id = {pk}")
    values["text"] = narrow_text(clean_text(text))
    values["external_id"] = narrow_text(clean_text(external_id))[:LONGEST_EXTERNAL_ID]
    yield "text", "%(text)s"
    yield "external_id", "%(external_id)s"


def _defaults(
    model: type[Model], known: Mapping[str, str], values: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the other columns of a model that are not NULL, with the default of the model."""
    for field in model._meta.local_concrete_fields:
        if field.column not in known and not field.null:
            values[field.column] = field.get_db_prep_save(field.get_default(), connection())
            yield field.column, f"%({field.column})s"
