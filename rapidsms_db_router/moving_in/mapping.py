"""What becomes of the columns of an old row: SQL expressions, by column of this app.

============================== ================================ ==================================
old transmission               here
============================== ================================ ==================================
Q Queued                       Q, without a batch: held         no try was made
P Processing                   Q, without a batch: held         one try, with an unknown outcome
R S D                          the same
E Errored, any other letter    E, given up                      one try; the old router kept no
                                                                error
============================== ================================ ==================================

The status of a message follows from its transmissions, as everywhere in this app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.connection import table
from rapidsms_db_router.models import Transmission
from rapidsms_db_router.models.status import NO_RECIPIENTS
from rapidsms_db_router.moving_in.dialects import Dialect
from rapidsms_db_router.storage.messages import LONGEST_EXTERNAL_ID

#: Why a row is E that the old router left as E.
FAILED_BEFORE = "failed in rapidsms.router.db, which keeps no error"
#: What the old router has finished, with the same letter here; and what it has not.
FINISHED = f"'{Status.RECEIVED}', '{Status.SENT}', '{Status.DELIVERED}'"
UNFINISHED = f"'{Status.QUEUED}', '{Status.PROCESSING}'"
#: The letter of an old transmission ``o`` here.
LETTER = (
    f"CASE WHEN o.status IN ({UNFINISHED}) THEN '{Status.QUEUED}'"
    f" WHEN o.status IN ({FINISHED}) THEN o.status ELSE '{Status.ERRORED}' END"
)
#: Whether it is E here.
ERRORED = f"o.status NOT IN ({UNFINISHED}, {FINISHED})"


def dates(words: Dialect, *names: str) -> dict[str, str]:
    """Return the dates of a row ``o`` by these columns: NULL for what is no date."""
    return {name: words.date(f"o.{name}") for name in names}


def _all_dates(words: Dialect) -> dict[str, str]:
    """Return the dates of a row ``o``; its first one is never NULL."""
    found = dates(words, "date", "updated", "sent", "delivered")
    return {**found, "date": f"COALESCE({', '.join(found.values())}, %(moment)s)"}


def status_of_message(direction: str) -> str:
    """Return the status of a message whose transmissions ``c`` has counted.

    :param direction: the column of its direction.
    """
    inbound = f"{direction} = '{Direction.INCOMING}'"
    return (
        f"CASE WHEN c.errored > 0 OR c.total IS NULL AND NOT ({inbound})"
        f" THEN '{Status.ERRORED}'"
        f" WHEN c.unfinished > 0 THEN '{Status.QUEUED}'"
        f" WHEN {inbound} THEN '{Status.RECEIVED}'"
        f" WHEN c.undelivered > 0 THEN '{Status.SENT}' ELSE '{Status.DELIVERED}' END"
    )


def of_transmission(words: Dialect) -> dict[str, str]:
    """Return the columns of a transmission, of the old row ``o``, that are not as by default."""
    return {
        "id": "o.id",
        "message_id": "o.message_id",
        "connection_id": "o.connection_id",
        "status": LETTER,
        **_all_dates(words),
        "error": f"CASE WHEN {ERRORED} THEN '{FAILED_BEFORE}' ELSE '' END",
        "attempts": f"CASE WHEN o.status = '{Status.QUEUED}' THEN 0 ELSE 1 END",
    }


def of_message(words: Dialect, segments: Mapping[int, Sequence[int]]) -> dict[str, str]:
    """Return the columns of a message, of the old row ``o``, that are not as by default.

    :param segments: primary keys by number of segments; all others have one.
    """
    inbound = f"o.direction = '{Direction.INCOMING}'"
    dated = _all_dates(words)
    errors = words.concat("c.errored", "' of '", "c.total", "' transmissions errored'")
    counted = " ".join(
        f"WHEN o.id IN ({', '.join(map(str, ids))}) THEN {number}"
        for number, ids in segments.items()
    )
    return {
        "id": "o.id",
        "direction": f"CASE WHEN {inbound} THEN '{Direction.INCOMING}'"
        f" ELSE '{Direction.OUTGOING}' END",
        "status": status_of_message("o.direction"),
        **dated,
        # the old router forgot it where two batches of a message ended together
        "sent": f"COALESCE({dated['sent']}, c.last_sent)",
        "text": words.text("o.text"),
        "segments": f"CASE {counted} ELSE 1 END" if counted else "1",
        "external_id": f"SUBSTR({words.text('o.external_id')}, 1, {LONGEST_EXTERNAL_ID})",
        # an answer comes after what it answers; any other is followed later
        "in_response_to_id": "CASE WHEN o.in_response_to_id < o.id THEN o.in_response_to_id END",
        "error": f"CASE WHEN {inbound} AND c.errored > 0 THEN '{FAILED_BEFORE}'"
        f" WHEN {inbound} THEN '' WHEN c.total IS NULL THEN '{NO_RECIPIENTS}'"
        f" WHEN c.errored > 0 THEN {errors} ELSE '' END",
        "given_up": "COALESCE(c.errored, 0) > 0",
        "attempts": f"CASE WHEN {inbound} AND COALESCE(c.unfinished, 0) = 0 THEN 1 ELSE 0 END",
    }


def counts(words: Dialect, among: str, model: type[Transmission] | None = None) -> str:
    """Return the query that counts the transmissions of old messages.

    :param among: a condition of the messages' keys, ``o.message_id``.
    :param model: counts those that have come here.
    """
    source = "db_transmission" if model is None else table(model)
    return (
        "SELECT o.message_id, COUNT(*) AS total,"
        f" SUM(CASE WHEN {ERRORED} THEN 1 ELSE 0 END) AS errored,"
        f" SUM(CASE WHEN o.status IN ({UNFINISHED}) THEN 1 ELSE 0 END) AS unfinished,"
        f" SUM(CASE WHEN o.status = '{Status.DELIVERED}' THEN 0 ELSE 1 END) AS undelivered,"
        f" MAX({words.date('o.sent')}) AS last_sent"
        f" FROM {source} o WHERE {among} GROUP BY o.message_id"
    )
