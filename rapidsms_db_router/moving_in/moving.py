"""The move: everything is copied that is not here, and followed where the old router went on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import IntegrityError
from rapidsms.models import Connection

from rapidsms_db_router import signals
from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import connection, contained, table
from rapidsms_db_router.db.text import as_id
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.message import dedup_key
from rapidsms_db_router.moving_in import comparing, keys, tables
from rapidsms_db_router.moving_in.copying import copy
from rapidsms_db_router.moving_in.dialects import dialect
from rapidsms_db_router.moving_in.following import follow_messages, follow_transmissions
from rapidsms_db_router.storage.messages import DEDUP_WINDOW

logger = logging.getLogger(__name__)

#: Messages whose keys are noted between two looks at their dates.
CHUNK = 500


@dataclass
class Moved:
    """What a run has done."""

    #: The last primary key of each old table when it began.
    last: dict[str, int] = field(default_factory=dict)
    #: Rows that were not here.
    copied: dict[str, int] = field(default_factory=dict)
    #: Rows that the old router had changed since an earlier run.
    followed: int = 0
    #: Rows that no column can hold.
    left_behind: int = 0


def prepare() -> dict[str, int]:
    """Check that the move can be made; have our keys begin far above those of the old tables.

    :returns: the last primary key of each old table.
    :raises tables.NoOldTables: naming what is missing.
    :raises tables.OtherRows: if rows of this app have keys of old rows.
    """
    tables.check()
    keys.begin_above(connection())
    comparing.check_keys()
    # The transmissions first: their messages were stored with them.
    return {old: tables.last_key(old) for old in reversed(tables.MODELS)}


def move(last: dict[str, int], tell: Callable[[int], None]) -> Moved:
    """Copy all rows that are not here, and follow those that have changed.

    :param last: as :func:`prepare` returns it.
    :param tell: is told of every chunk how many rows it had.
    """
    moved = Moved(last)
    try:
        for old in tables.MODELS:
            for span in tables.spans(old, dialect().chunk, last[old]):
                begun = time.monotonic()
                _move(old, span, moved)
                tell(span.rows)
                time.sleep(dialect().pause * (time.monotonic() - begun))
        for span in tables.spans("db_message", dialect().compared, last["db_message"]):
            moved.followed += follow_messages(span)
        _note_dedup_keys(last["db_message"])
    finally:
        if moved.followed or any(moved.copied.values()):
            last_id = last["db_transmission"]
            signals.tell(signals.rows_imported, sender=Transmission, last_id=last_id)
    logger.info(
        "old_rows_moved messages=%s transmissions=%s followed=%s left_behind=%s",
        *moved.copied.values(),
        moved.followed,
        moved.left_behind,
    )
    return moved


def _move(old: str, span: tables.Span, moved: Moved) -> None:
    here = table(tables.MODELS[old])
    known = tables.count(here, span)
    if known < span.rows:
        moved.left_behind += copy(old, span)
        now_known = tables.count(here, span)
        moved.copied[old] = moved.copied.get(old, 0) + now_known - known
    if known and old == "db_transmission":
        moved.followed += follow_transmissions(span)


def _note_dedup_keys(last: int) -> None:
    """Note what a duplicate of each inbound message of the last day would have too.

    A gateway that got no answer from the old router posts its message to this one.
    """
    since, rows = now() - DEDUP_WINDOW, Message.objects.filter(pk__lte=last).order_by("-pk")
    while some := list(rows.values_list("pk", "date")[:CHUNK]):
        first, date = some[-1]
        inbound = rows.filter(pk__gte=first, direction=Direction.INCOMING, dedup_key=None)
        named = inbound.filter(date__gt=since).exclude(external_id="")
        for message in named.prefetch_related("transmissions"):
            _note_dedup_key(message)
        if date < since:
            return
        rows = rows.filter(pk__lt=first)


def _note_dedup_key(message: Message) -> None:
    external_id = as_id(message.external_id)
    people = [Connection(pk=row.connection_id) for row in message.transmissions.all()]
    key = dedup_key(people, external_id, message.text)
    with suppress(IntegrityError), contained():  # the old router has stored it twice
        Message.objects.filter(pk=message.pk).update(dedup_key=key)
