"""The same without a router: bare statements, bare tasks, and bare calls of the gateway."""

from __future__ import annotations

import multiprocessing
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import connection, models, transaction
from rapidsms.router import get_router

from benchmarks.inside import (
    CONNECTIONS,
    ROWS,
    Message,
    Transmission,
    execute,
    function,
    insert,
)
from benchmarks.service.tasks import note_time


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


@function
def floor_calls(count: int, processes: int, threads: int) -> dict[str, float]:
    """Call the gateway from threads of processes, one SMS a call."""
    context = multiprocessing.get_context("fork")
    together = context.Barrier(processes + 1)
    share = count // processes

    def work() -> None:
        gateway = get_router().backends["gateway"]

        def call(number: int) -> None:
            gateway.send(1, "broadcast", [f"+4{number:09}"])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(call, range(threads)))  # its threads are started, and connected
            together.wait()
            list(pool.map(call, range(share)))
        together.wait()

    started = [context.Process(target=work) for _ in range(processes)]
    for process in started:
        process.start()
    together.wait()
    start = time.perf_counter()
    together.wait()
    seconds = time.perf_counter() - start
    for process in started:
        process.join()
    return {"seconds": seconds, "rate": processes * share / seconds}
