"""``python -m benchmarks.inside FUNCTION ARGUMENT ...``: what has to run inside a project.

Each call is a process of its own, so that no measurement finds the memory or the caches of
another. What the function returns is printed as JSON.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import django

django.setup()

from celery import current_app  # noqa: E402
from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models.fields import NOT_PROVIDED  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from psycopg import sql  # noqa: E402
from rapidsms.models import Backend, Connection  # noqa: E402
from rapidsms.router import receive, send  # noqa: E402

from benchmarks.service.tasks import note_time  # noqa: E402

LABEL = settings.RAPIDSMS_ROUTER.removesuffix(".DatabaseRouter").rpartition(".")[2]
Message = apps.get_model(LABEL, "Message")
Transmission = apps.get_model(LABEL, "Transmission")
ROWS, CONNECTIONS = Transmission._meta.db_table, Connection._meta.db_table
#: Transmissions of one of the old messages.
OLD_BATCH = 1000
#: No message has more tasks than this in the steps that are counted.
MOST_TASKS = 100

FUNCTIONS: dict[str, Any] = {}


def function(measure: Any) -> Any:
    """Have a function called by its name on the command line."""
    FUNCTIONS[measure.__name__] = measure
    return measure


# Filling the tables


def insert(model: type[models.Model], source: str, **given: str) -> str:
    """Return ``INSERT ... SELECT`` of ``given`` SQL expressions and the other fields' defaults."""
    for field in model._meta.concrete_fields:
        default_of_database = getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
        if field.attname in given or field.primary_key or field.null or default_of_database:
            continue
        value = field.get_db_prep_save(field.get_default(), connection)
        given[field.attname] = sql.Literal(value).as_string(connection.connection)
    table = model._meta.db_table
    return f"INSERT INTO {table} ({', '.join(given)}) SELECT {', '.join(given.values())} {source}"


def execute(statement: str) -> int:
    """Run one statement; return how many rows it was about."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.rowcount


@function
def fill(connections: int, old_rows: int) -> None:
    """Store connections, and transmissions that were sent a year ago."""
    gateway = Backend.objects.create(name="gateway")
    # rows that refer to what is there need no checks
    execute("SET session_replication_role = replica")
    numbers = f"FROM generate_series(1, {connections}) AS number"
    moments = dict.fromkeys(("created_on", "modified_on"), "now()")
    identity = "'+4' || lpad(number::text, 9, '0')"
    execute(insert(Connection, numbers, backend_id=str(gateway.pk), identity=identity, **moments))
    sent = {
        "status": "'S'",
        **dict.fromkeys(("date", "updated", "sent"), "now() - '1 year'::interval"),
    }
    messages = f"FROM generate_series(1, {old_rows // OLD_BATCH}) AS number"
    execute(insert(Message, messages, direction="'O'", text="'old'", **sent))
    rows = f"FROM {Message._meta.db_table} m, generate_series(1, {OLD_BATCH}) AS number"
    # every connection has its share of them, and no message has one twice
    whom = f"1 + (m.id * {OLD_BATCH} + number) % {connections}"
    execute(insert(Transmission, rows, message_id="m.id", connection_id=whom, **sent))
    execute("RESET session_replication_role")
    execute("VACUUM ANALYZE")


# The caller


class Count:
    """Counts statements, and keeps nothing of them."""

    def __init__(self) -> None:
        self.statements = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.statements += 1
        return execute(*arguments)


def peak() -> float:
    """Return the most memory this process has ever had, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def first(count: int) -> Any:
    """Select so many connections."""
    return Connection.objects.filter(pk__lte=count)


@function
def intake(count: int, form: str) -> dict[str, float]:
    """Send to a QuerySet, or to a list."""
    send("first", first(1))  # imports what is imported late, and connects
    recipients = first(count) if form == "queryset" else list(first(count))
    before, counted = peak(), Count()
    with connection.execute_wrapper(counted):
        start = time.perf_counter()
        send("broadcast", recipients)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rate": count / seconds,
        "queries": counted.statements,
        "megabytes": peak() - before,
    }


@function
def broadcast(count: int) -> None:
    """Send to so many."""
    send("broadcast", first(count))


@function
def warm_up(count: int, pings: int) -> None:
    """Send to so many, and have some pings come in."""
    broadcast(count)
    come_in(pings)


@function
def come_in(count: int, interval: float = 0) -> dict[str, float]:
    """Have pings come in, one by one, so many seconds apart."""
    senders = list(first(count))
    receive("first", senders[0])
    start = time.perf_counter()
    for number, sender in enumerate(senders):
        time.sleep(max(0, start + number * interval - time.perf_counter()))
        receive(f"ping {number}", sender)
    return {"rate": count / (time.perf_counter() - start)}


@function
def publish(count: int, path: str) -> dict[str, float]:
    """Publish bare tasks."""
    note_time.delay(path)
    start = time.perf_counter()
    for _ in range(count - 1):
        note_time.delay(path)
    return {"published": (count - 1) / (time.perf_counter() - start)}


# Queries of each step


@function
def steps(count: int) -> dict[str, float]:
    """Count the queries of one ping with its pong, and of a broadcast with its batches."""
    sender = first(1).get()
    receive("ping 0", sender)  # imports what is imported late, and connects
    run_published()
    with CaptureQueriesContext(connection) as received:
        receive("ping 1", sender)
    tasks = run_published()
    figures = {
        "receive": len(received),
        "process": sum(number for name, number in tasks if "receive" in name),
        "ping to pong": len(received) + sum(number for _, number in tasks),
    }
    with CaptureQueriesContext(connection) as stored:
        send("broadcast", first(count))
    sent = sorted(number for _, number in run_published())
    return figures | {
        "broadcast": len(stored),
        "batch": sent[len(sent) // 2],
        "batch, most": sent[-1],
    }


def run_published() -> list[tuple[str, int]]:
    """Run the tasks that were published, and what they publish; count the queries of each."""
    done = []
    while (task := take_published()) is not None:
        name, arguments, options = task
        with CaptureQueriesContext(connection) as captured:
            current_app.tasks[name](*arguments, **options)
        done.append((name, len(captured)))
        assert len(done) < MOST_TASKS, done
    return done


def take_published() -> tuple[str, list[Any], dict[str, Any]] | None:
    """Take one task out of the broker; ``None`` if there is none."""
    with current_app.connection_for_read() as broker:
        for name in list(current_app.amqp.queues):
            with broker.SimpleQueue(current_app.amqp.queues[name]) as tasks:
                try:
                    message = tasks.get(block=False)
                except queue.Empty:
                    continue
                message.ack()
                arguments, options, _ = message.decode()
                return message.headers["task"], arguments, options
    return None


# The floor


@function
def floor_intake(count: int) -> dict[str, float]:
    """Store the rows of a broadcast by one bare statement."""
    seconds, _ = store_rows(count)
    return {"seconds": seconds, "rate": count / seconds}


def store_rows(count: int) -> tuple[float, int]:
    """Store the rows of a broadcast; return the seconds, and the id of its message."""
    message = Message.objects.create(direction="O", text="broadcast", status="P")
    moments = dict.fromkeys(("date", "updated"), "now()")
    statement = insert(
        Transmission,
        f"FROM {CONNECTIONS} WHERE id <= {count}",
        message_id=str(message.pk),
        connection_id="id",
        status="'Q'",
        **moments,
    )
    start = time.perf_counter()
    with transaction.atomic():
        execute(statement)
    return time.perf_counter() - start, message.pk


@function
def floor_come_in(count: int) -> dict[str, float]:
    """Store the two rows of each of some inbound messages, and publish a bare task for each."""
    moments = dict.fromkeys(("date", "updated"), "now()")
    message = insert(Message, "", direction="'I'", text="'ping'", status="'Q'", **moments)
    row = {"message_id": "m.id", "connection_id": "1", "status": "'Q'", **moments}
    statement = f"WITH m AS ({message} RETURNING id) {insert(Transmission, 'FROM m', **row)}"
    execute(statement)
    note_time.delay("")
    start = time.perf_counter()
    for _ in range(count):
        execute(statement)
        note_time.delay("")
    return {"rate": count / (time.perf_counter() - start)}


@function
def floor_drain(count: int, processes: int) -> dict[str, float]:
    """Take, read and finish the batches of a broadcast by bare statements."""
    _, message = store_rows(count)
    execute(f"ANALYZE {ROWS}")
    lowest = Transmission.objects.filter(message=message).aggregate(models.Min("pk"))["pk__min"]
    size = settings.DB_ROUTER_DEFAULT_BATCH_SIZE
    end = lowest + count
    batches = [(low, min(low + size, end) - 1) for low in range(lowest, end, size)]
    columns = {field.name for field in Transmission._meta.concrete_fields}
    together = threading.Barrier(processes + 1)

    def work(share: list[tuple[int, int]]) -> None:
        try:
            connection.ensure_connection()
            together.wait()
            for low, high in share:
                drain_batch(message, low, high, columns)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=work, args=(batches[number::processes],))
        for number in range(processes)
    ]
    for thread in threads:
        thread.start()
    together.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    assert Transmission.objects.filter(message=message, status="S").count() == count
    return {"seconds": seconds, "rate": count / seconds}


def drain_batch(message: int, low: int, high: int, columns: set[str]) -> None:
    """Do with the rows of one batch what has to be done."""
    claim = f"'{uuid.uuid4()}'"
    take = {"status": "'P'", "claim": claim, "attempts": "attempts + 1", "updated": "now()"}
    finish = {"status": "'S'", "claim": "NULL", "sent": "now()", "updated": "now()"}
    rows = f"message_id = {message} AND {ROWS}.id BETWEEN {low} AND {high}"
    with connection.cursor() as cursor:
        for status, changes in (("Q", take), ("P", finish)):
            written = ", ".join(f"{name} = {to}" for name, to in changes.items() if name in columns)
            cursor.execute(f"UPDATE {ROWS} SET {written} WHERE {rows} AND status = '{status}'")
            if status == "Q":
                cursor.execute(
                    f"SELECT {ROWS}.id, identity FROM {ROWS} JOIN {CONNECTIONS} c"
                    f" ON c.id = connection_id WHERE {rows} AND status = 'P'"
                )
                cursor.fetchall()


def main(name: str, *arguments: str) -> None:
    """Call a function; numbers among its arguments are written as JSON."""
    values = [json.loads(word) if word[0].isdigit() else word for word in arguments]
    print(json.dumps(FUNCTIONS[name](*values)))


if __name__ == "__main__":
    main(*sys.argv[1:])
