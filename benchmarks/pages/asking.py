"""Asks each page as a user with all permissions, and prints how long it takes."""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django

django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.urls import reverse  # noqa: E402
from rapidsms.models import Backend  # noqa: E402

from benchmarks.pages.table import Table, percentile  # noqa: E402
from rapidsms_db_router import bulk_actions  # noqa: E402
from rapidsms_db_router.models import BulkAction, Message, Transmission  # noqa: E402
from rapidsms_db_router.operations.models import Broadcast, Draft  # noqa: E402
from tests import pages  # noqa: E402

#: How often each page is asked.
TIMES = 20
#: Lines of the export that are measured.
LINES = 200_000
MEGABYTE = 1024 * 1024
#: What PostgreSQL's plans say of a table that is read as a whole.
WHOLE = r"Seq Scan on rapidsms_db_router_(message|transmission)\b"
TABLES = tuple(each._meta.db_table for each in (Message, Transmission))


def everybody() -> Client:
    """Return a browser of a user with all permissions."""
    user, _ = User.objects.get_or_create(username="operator")
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    return client


def keys() -> dict[str, list[int]]:
    """Return primary keys of what has pages; the first person has 16,000 messages."""
    gateway = Backend.objects.get(name="gateway")
    draft, _ = Draft.objects.get_or_create(text="news", backend=gateway, author="operator")
    failed = Transmission.objects.filter(status="E").order_by("-pk")[:1000]
    action = BulkAction.objects.order_by("-pk").first()
    if action is None:
        ids = list(failed.values_list("pk", flat=True))
        action = bulk_actions.prepare("resend", Transmission.objects.filter(pk__in=ids), "operator")
    broadcast = Broadcast.objects.order_by("-message").first()
    assert broadcast is not None
    return {
        "pk": [gateway.pk, broadcast.message_id, action.pk, draft.pk],
        "backend": [gateway.pk],
    }


def requests(client: Client) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield of each page a name, the URL, and the query; of some pages several."""
    newest = Transmission.objects.order_by("-pk").values_list("pk", flat=True)[0]
    for name, url in pages.urls(client, keys()).items():
        yield name, url, {}
        for query in pages.QUERIES.get(name, ()):
            query = {word: value.format(middle=newest // 2) for word, value in query.items()}
            yield name, url, query
    yield "router-metrics", reverse("router-metrics"), {"secret": "of the scraper"}


def ask(client: Client, url: str, query: dict[str, str]) -> float:
    """Ask for a page; return how many milliseconds it took."""
    begun = time.monotonic()
    answer = client.get(url, query)
    assert answer.status_code == 200, (url, query, answer.status_code)
    return 1000 * (time.monotonic() - begun)


def whole_tables(statements: list[str]) -> set[str]:
    """Return which of the two large tables a statement reads as a whole.

    SQLite's plans do not tell that from a walk along the primary key that ends early.
    """
    found: set[str] = set()
    for statement in statements:
        if connection.vendor == "sqlite" or not statement.startswith("SELECT"):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        if connection.vendor == "mysql":
            # the columns: id, select_type, table, type, ...
            found |= {row[2] for row in rows if row[3] == "ALL" and row[2] in TABLES}
        else:
            found |= set(re.findall(WHOLE, "\n".join(str(row[-1]) for row in rows)))
    return found


def ask_all(table: Table, only: str) -> None:
    """Ask every page."""
    client = everybody()
    for name, url, query in requests(client):
        if only not in f"{name} {query}":
            continue
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(url, query)
        if getattr(answer, "streaming", False):
            continue  # the export: see below
        # before they are forgotten at the next request
        statements = [each["sql"] for each in captured.captured_queries]
        busy = time.process_time()
        times = [ask(client, url, query) for _ in range(TIMES)]
        busy = 1000 * (time.process_time() - busy) / TIMES
        whole = whole_tables(statements)
        shown = " ".join(f"{word}={value}" for word, value in query.items() if word != "secret")
        table.row(
            f"{name.removeprefix('router-')} {shown}".strip(),
            f"{len(statements)} queries",
            f"p50 {percentile(times, 0.5):.0f} ms",
            f"p95 {percentile(times, 0.95):.0f} ms",
            f"Python {busy:.0f} ms",
            f"reads all of {', '.join(sorted(whole))}" if whole else "",
        )


def export(table: Table) -> None:
    """Measure the export: lines a second, and how much the process has grown."""
    client = everybody()
    for format_ in ("csv", "jsonl"):
        begun = time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before = memory()
        answer = client.get(reverse("router-export", args=[format_]))
        count = sum(1 for _ in itertools.islice(answer.streaming_content, LINES))
        took = time.monotonic() - begun
        grown = (memory() - before) / MEGABYTE
        table.row(f"export {format_}", f"{count / took:,.0f} lines/s", f"{grown:.0f} MB more", "")


def memory() -> int:
    """Return the peak of the process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def main(only: str = "") -> None:
    """Ask every page, and export.

    :param only: a part of the name of the pages that are asked.
    """
    table = Table()
    ask_all(table, only)
    if only in "export":
        export(table)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
