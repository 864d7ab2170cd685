"""What every page asks of the database: few statements, none of which reads a large table whole.

The pages are all that have a URL pattern, so that a new one is measured by itself.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Backend, Connection, Contact
from rapidsms.router import send

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.operations import groups, listing
from rapidsms_db_router.operations.models import Broadcast, Draft
from rapidsms_db_router.operations.tallies import filling
from tests import pages

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12
LARGE = [model._meta.db_table for model in (Message, Transmission)]
#: Rows that PostgreSQL takes each page of a large table to hold.
ROWS_A_PAGE = 1_000_000


@pytest.fixture
def service(worker, people, person) -> dict[str, list[int]]:
    """A service with something on each page; primary keys for its pages."""
    amina = person.contact = Contact.objects.create(name="Amina")
    person.save()
    for number in range(5):
        backend = Backend.objects.create(name=f"of Amina {number}")
        Connection.objects.create(contact=amina, backend=backend, identity=f"amina{number}")
    with worker.commit():
        message = send("news", people(60)).database_message
        send("later", [person], not_before=now() + datetime.timedelta(days=1))
    store(100)
    filling.fill()
    errored = Transmission.objects.filter(status=Status.ERRORED)
    action = bulk_actions.prepare("resend", errored, "somebody")
    draft = Draft.objects.create(text="x", backend=person.backend, author="somebody")
    assert Broadcast.objects.filter(message=message.pk).exists()
    keys = [message.pk, person.backend_id, person.pk, action.pk, draft.pk]
    return {"pk": keys, "backend": [person.backend_id]}


def store(count: int) -> None:
    """Store messages of people that nobody has heard of before; of each ten one has failed."""
    backend = Connection.objects.order_by("pk")[0].backend
    begin, date = Connection.objects.count(), now() - datetime.timedelta(minutes=5)
    numbers = [f"+25471{begin + place:07}" for place in range(count)]
    Connection.objects.bulk_create(
        (Connection(backend=backend, identity=number) for number in numbers), batch_size=500
    )
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True)[0]
    Message.objects.bulk_create(
        (
            Message(direction=Direction.OUTGOING, text="x", status=Status.SENT, date=date)
            for _ in range(count)
        ),
        batch_size=500,
    )
    messages = Message.objects.filter(pk__gt=newest).order_by("pk").values_list("pk", flat=True)
    connections = Connection.objects.filter(identity__in=numbers).values_list("pk", flat=True)
    Transmission.objects.bulk_create(
        (
            Transmission(
                message_id=key,
                connection_id=whom,
                date=date,
                status=Status.SENT if place % 10 else Status.ERRORED,
                error="" if place % 10 else "no such number",
            )
            for place, (key, whom) in enumerate(zip(messages, connections, strict=True))
        ),
        batch_size=500,
    )


@pytest.fixture
def browser(operator):
    """A browser of a user who may do everything."""
    return operator(*Permission.objects.values_list("codename", flat=True))


def statements_of_all(browser: Any, keys: dict[str, list[int]]) -> dict[str, list[str]]:
    """Ask for every page; return the statements of each."""
    found = {}
    newest = Transmission.objects.order_by("-pk").values_list("pk", flat=True)[0]
    for name, url in pages.urls(browser, keys).items():
        for query in ({}, *pages.QUERIES.get(name, ())):
            words = {word: value.format(middle=newest - 20) for word, value in query.items()}
            with CaptureQueriesContext(connection) as captured:
                answer = browser.get(url, words)
                if answer.streaming:
                    list(answer.streaming_content)
            assert answer.status_code == 200, (name, words)
            found[f"{name} {words}"] = [each["sql"] for each in captured.captured_queries]
    return found


def test_every_page_takes_few_queries_at_any_number_of_rows(browser, service):
    for more in (0, 1000):
        store(more)
        filling.fill()
        found = statements_of_all(browser, service)
        assert len(found) > 20
        too_many = {
            name: statements
            for name, statements in found.items()
            # the export reads as many chunks as there are
            if len(statements) > MOST_QUERIES and not name.startswith("router-export")
        }
        assert not too_many


def test_no_page_reads_all_messages_or_all_transmissions(browser, service, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("is about PostgreSQL's plans")
    # of a large table a window is a small part
    monkeypatch.setattr(listing, "WINDOW", 100)
    monkeypatch.setattr(listing, "NARROW_WINDOW", 100)
    monkeypatch.setattr(listing, "TEXTS", 100)
    monkeypatch.setattr(groups, "WINDOW", 100)
    monkeypatch.setattr("rapidsms_db_router.operations.export.CHUNK", 500)
    store(5000)
    filling.fill()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        for table in LARGE:
            # the planner believes what it reads here, for the size that the file has
            cursor.execute(
                "UPDATE pg_class SET reltuples = %s, relpages = 1 WHERE oid = %s::regclass",
                [ROWS_A_PAGE, table],
            )
    found = {name: whole(each) for name, each in statements_of_all(browser, service).items()}
    assert len(found) > 20
    assert not {name: plans for name, plans in found.items() if plans}


def test_a_table_that_is_read_whole_is_seen(service):
    if connection.vendor != "postgresql":
        pytest.skip("is about PostgreSQL's plans")
    with CaptureQueriesContext(connection) as captured:
        Transmission.objects.filter(error="x").count()
    assert whole([each["sql"] for each in captured.captured_queries])


def whole(statements: list[str]) -> list[str]:
    """Return the plans that read a large table from its beginning to its end."""
    found = []
    for statement in statements:
        if not statement.startswith("SELECT"):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(row for (row,) in cursor.fetchall())
        if re.search(rf"Seq Scan on ({'|'.join(LARGE)})\b", plan):
            found.append(f"{statement}\n{plan}")
    return found
