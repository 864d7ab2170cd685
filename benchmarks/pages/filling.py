"""Fills the tables as some years of service would, and tallies the hours.

Of each round of 250,000 transmissions 150,000 are a broadcast. The others are texts and their
replies. All are of the last 90 days, and 3,000 of the last day's have failed. 12,400 replies wait
for their gateway, a broadcast is scheduled, and another is paused.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.core.management.color import no_style  # noqa: E402
from django.db import connection, models  # noqa: E402
from rapidsms.models import Backend, Connection, Contact  # noqa: E402
from rapidsms.router import send  # noqa: E402

from rapidsms_db_router.choices import Status  # noqa: E402
from rapidsms_db_router.db.clock import now  # noqa: E402
from rapidsms_db_router.models import Batch, Message, Transmission  # noqa: E402
from rapidsms_db_router.operations.models import Hour  # noqa: E402
from rapidsms_db_router.operations.tallies import filling  # noqa: E402
from rapidsms_db_router.outbound import pausing  # noqa: E402

#: People with a number each; every tenth has a name, too.
PEOPLE = 1_000_000
#: Transmissions of a round: those of its broadcast come first.
BROADCAST, ROUND = 150_000, 250_000
#: Messages of a round.
MESSAGES = ROUND - BROADCAST + 1
PERIOD = timedelta(days=90)
FAILED, WAITING = 3_000, 12_400
#: Every so many texts are by one person, whose phone tests the service.
TESTS = 250
#: Rows of one statement.
STEP = 1_000_000
TEXT = "where is my result please, my number is the one that I have written to you last week "
FORBIDDEN = "HTTPError: HTTP 403: authorization failed"

#: By database: whole numbers after {0} and up to {1} as ``i``; a moment some seconds after another.
SERIES = {
    "postgresql": "generate_series({0} + 1, {1}) AS series (i)",
    "mysql": "(SELECT seq AS i FROM seq_1_to_{1} WHERE seq > {0}) series",
    "sqlite": (
        "(WITH RECURSIVE series (i) AS (SELECT {0} + 1 UNION ALL SELECT i + 1 FROM series"
        " WHERE i < {1}) SELECT i FROM series) series"
    ),
}
LATER = {
    "postgresql": "timestamptz '{0}+00' + ({1}) * interval '1 second'",
    "mysql": "DATE_ADD('{0}', INTERVAL ({1}) SECOND)",
    "sqlite": "datetime('{0}', '+' || CAST(({1}) AS integer) || ' seconds')",
}
#: Whole numbers are divided to whole numbers.
DIVIDE = {"postgresql": "({0} / {1})", "mysql": "({0} DIV {1})", "sqlite": "({0} / {1})"}
#: A number of nine digits.
PADDED = {
    "postgresql": "'{0}' || lpad(({1})::text, 9, '0')",
    "mysql": "CONCAT('{0}', LPAD({1}, 9, '0'))",
    "sqlite": "'{0}' || printf('%09d', {1})",
}
#: Rows that refer to what is there need no checks.
UNCHECKED = {
    "postgresql": "SET session_replication_role = replica",
    "mysql": "SET foreign_key_checks = 0, unique_checks = 0",
}
ANALYZE = {"postgresql": "VACUUM ANALYZE", "sqlite": "ANALYZE"}


def insert(model: type[models.Model], first: int, last: int, **given: str) -> None:
    """Insert rows, a million with a statement; other fields have their defaults.

    :param first: the number before the first; ``i`` goes on up to ``last``.
    :param given: an SQL expression of ``i`` for each column.
    """
    given = {name: value.replace("%", "%%") for name, value in given.items()}
    values: list[Any] = []
    for each in model._meta.concrete_fields:
        if each.attname not in given and not each.primary_key and not each.null:
            given[each.attname] = "%s"
            values.append(each.get_db_prep_save(each.get_default(), connection))
    names = ", ".join(given)
    with connection.cursor() as cursor:
        for begin in range(first, last, STEP):
            series = SERIES[connection.vendor].format(begin, min(begin + STEP, last))
            table = model._meta.db_table
            cursor.execute(
                f"INSERT INTO {table} ({names}) SELECT {', '.join(given.values())} FROM {series}",
                values,
            )


def divide(number: Any, by: Any) -> str:
    """Return SQL of a quotient that is a whole number."""
    return DIVIDE[connection.vendor].format(number, by)


def people() -> None:
    """Store a million people."""
    padded, moment = PADDED[connection.vendor], now()
    gateway = Backend.objects.create(name="gateway")
    known = dict.fromkeys(("created_on", "modified_on"), f"'{moment:%Y-%m-%d %H:%M:%S}'")
    if connection.vendor == "postgresql":
        known = {name: f"timestamptz {value}" for name, value in known.items()}
    insert(Contact, 0, PEOPLE // 10, id="i", name=padded.format("Person ", "i"), **known)
    contact = f"CASE WHEN i <= {PEOPLE // 10} THEN i END"
    number = padded.format("+254", "i")
    columns = {"id": "i", "backend_id": str(gateway.pk), "identity": number, "contact_id": contact}
    insert(Connection, 0, PEOPLE, **columns, **known)


def rows(count: int) -> None:
    """Store messages and their transmissions, in the order of their dates."""
    begin = f"{now() - PERIOD:%Y-%m-%d %H:%M:%S}"
    rounds = count // ROUND
    seconds = PERIOD.total_seconds() / max(1, rounds)

    def later(round_: str, place: str) -> str:
        offset = f"({round_}) * {seconds} + ({place}) * {seconds / MESSAGES}"
        return LATER[connection.vendor].format(begin, offset)

    def dated(moment: str) -> dict[str, str]:
        return dict.fromkeys(("date", "updated"), moment)

    round_, place = divide("(i - 1)", MESSAGES), f"((i - 1) % {MESSAGES})"
    inbound = f"({place} % 2 = 1)"
    ended = "CASE WHEN {0} THEN 'R' WHEN i % 50 = 0 THEN 'E' WHEN i % 3 = 0 THEN 'D' ELSE 'S' END"
    insert(
        Message,
        0,
        rounds * MESSAGES,
        id="i",
        direction=f"CASE WHEN {inbound} THEN 'I' ELSE 'O' END",
        status=ended.format(inbound),
        text=f"SUBSTR('{TEXT}', 1, 20 + (i * 7) % 60)",
        in_response_to_id=f"CASE WHEN NOT {inbound} AND {place} > 0 THEN i - 1 END",
        **dated(later(round_, place)),
    )
    round_, place = divide("(i - 1)", ROUND), f"((i - 1) % {ROUND})"
    talk = f"({place} - {BROADCAST})"
    inbound = f"({place} >= {BROADCAST} AND {place} % 2 = 0)"
    pair = divide("(i - 1)", 2)
    whom = f"CASE WHEN {pair} % {TESTS} = 0 THEN 1 ELSE {pair} % {PEOPLE} + 1 END"
    moment = later(round_, f"CASE WHEN {place} < {BROADCAST} THEN 0 ELSE {talk} + 1 END")
    outbound = f"CASE WHEN NOT {inbound} AND i % 50 <> 0 THEN"
    insert(
        Transmission,
        0,
        rounds * ROUND,
        id="i",
        message_id=f"{round_} * {MESSAGES} + 1"
        f" + CASE WHEN {place} < {BROADCAST} THEN 0 ELSE {talk} + 1 END",
        connection_id=f"CASE WHEN {place} < {BROADCAST}"
        f" THEN ({round_} * {BROADCAST} + {place}) % {PEOPLE} + 1 ELSE {whom} END",
        status=ended.format(inbound),
        error=f"CASE WHEN NOT {inbound} AND i % 50 = 0 THEN 'no such number' ELSE '' END",
        attempts=f"CASE WHEN {inbound} THEN 0 ELSE 1 END",
        sent=f"{outbound} {moment} END",
        delivered=f"CASE WHEN NOT {inbound} AND i % 50 <> 0 AND i % 3 = 0 THEN {moment} END",
        external_id=f"{outbound} {PADDED[connection.vendor].format('gw', 'i')} END",
        **dated(moment),
    )
    # the statements above have named their keys
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Message, Transmission]):
            cursor.execute(statement)


def fail() -> None:
    """Have 3,000 of the last day's transmissions have failed, each for one of two reasons."""
    newest = Transmission.objects.order_by("-pk").values_list("pk", flat=True)[0]
    some = Transmission.objects.filter(pk__gt=newest - 2 * FAILED, message__direction="O")
    ids = list(some.values_list("pk", flat=True)[:FAILED])
    for error, these in ((FORBIDDEN, ids[: FAILED // 3 * 2]), ("no such number", ids[2000:])):
        Transmission.objects.filter(pk__in=these).update(status=Status.ERRORED, error=error)


def wait() -> None:
    """Have some transmissions wait: replies, a scheduled broadcast and a paused one."""
    gateway = Backend.objects.get(name="gateway")
    everybody = Connection.objects.filter(backend=gateway)
    pausing.pause(send("paused", everybody.filter(pk__lte=100_000)).database_message.pk)
    tomorrow = now() + timedelta(days=1)
    send("tomorrow", everybody.filter(pk__lte=BROADCAST), not_before=tomorrow)
    date = now() - timedelta(minutes=20)
    messages = Message.objects.bulk_create(
        (Message(direction="O", text="reply", date=date) for _ in range(WAITING)), batch_size=500
    )
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True)[:WAITING]
    keys = [message.pk for message in messages]
    if keys[0] is None:  # MariaDB's driver does not tell them
        keys = sorted(newest)
    Transmission.objects.bulk_create(
        (
            Transmission(message_id=key, connection_id=number, date=date)
            for number, key in enumerate(keys, start=1)
        ),
        batch_size=500,
    )
    queued = Transmission.objects.filter(message__in=keys).order_by("pk")
    Batch.objects.bulk_create(
        (
            Batch(
                message_id=key,
                backend=gateway,
                transmission_ids=[pk],
                whole=True,
                position=-1,
                due_at=date,
                ready_at=date,
            )
            for pk, key in queued.values_list("pk", "message")
        ),
        batch_size=500,
    )


def main(count: int, *, waiting: bool = True) -> None:
    """Fill the tables and the tallies; tell how long that took.

    :param waiting: whether some have failed of late, and some wait.
    """
    if connection.vendor in UNCHECKED:
        with connection.cursor() as cursor:
            cursor.execute(UNCHECKED[connection.vendor])
    for name, step in (
        ("people", people),
        (f"{count:,} transmissions", lambda: rows(count)),
        *((("failures", fail), ("what waits", wait)) if waiting else ()),
        ("statistics", analyze),
        ("tallies", tally),
    ):
        begun = time.monotonic()
        step()
        load = os.getloadavg()[0]
        print(f"{name}: {time.monotonic() - begun:.0f} s, load {load:.1f}", flush=True)


def analyze() -> None:
    """Have the planner know of the rows, as it does after some days."""
    tables = [each._meta.db_table for each in (Message, Transmission, Connection, Contact, Batch)]
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {', '.join(tables)}")
        else:
            cursor.execute(ANALYZE[connection.vendor])


def tally() -> None:
    """Tally all hours."""
    print(filling.fill(1200), "hours,", Hour.objects.filter(is_final=False).count(), "not final")


if __name__ == "__main__":
    main(int(sys.argv[1]), waiting="settled" not in sys.argv)
