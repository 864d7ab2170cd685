"""PostgreSQL's plans of the statements of every batch, on statistics of an empty table.

So it is with the first large broadcast of an installation.
"""

from __future__ import annotations

import re
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Connection
from rapidsms.router import send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.engine import engine
from rapidsms_db_router.models import Batch, Message, Transmission
from tests.integration.test_early_reports import Naming

pytestmark = pytest.mark.django_db

TABLES = [model._meta.db_table for model in (Message, Transmission, Batch, Connection)]
RECIPIENTS = 10_000


@pytest.fixture
def broadcast(worker, person):
    """A broadcast whose rows the planner knows nothing of."""
    if connection.vendor != "postgresql":
        pytest.skip("is about PostgreSQL's planner")
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {', '.join(TABLES)}")
    Connection.objects.bulk_create(
        Connection(backend=person.backend, identity=f"+2557{number:07}")
        for number in range(RECIPIENTS)
    )
    with worker.commit():
        message = send("news", Connection.objects.all()).database_message
    assert message.transmissions.count() == RECIPIENTS + 1
    return message


def test_no_plan_of_a_batch_reads_more_than_the_batch(broadcast, person):
    token, statements = uuid.uuid4(), engine()
    with CaptureQueriesContext(connection) as captured:
        [batch] = statements.claim_batches(person.backend_id, token, 1)
        ids = batch.transmission_ids
        statements.hold({batch.pk: token})
        statements.recipients(ids, person.backend_id)
        assert statements.mark_processing(ids) == set(ids)
        statements.note_external_ids({pk: str(pk) for pk in ids})
        statements.mark_errored(dict.fromkeys(ids[1:], ("refused", None)))
        assert statements.mark_sent(ids[:1], now(), {ids[0]: "a"}) == 1
        statements.delete_batches([batch.pk])
    assert len(captured.captured_queries) == 8
    for query in captured.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row for (row,) in cursor.fetchall())
        # of batches there are so few that to read them all costs nothing
        whole = re.search(r"BitmapAnd|Seq Scan on \S*(transmission|connection)", plan)
        indexes = re.findall(r"Index (?:Only )?Scan (?:using|on) (\w+)", plan)
        others = [name for name in indexes if not name.endswith(("_pkey", "claimable_batch"))]
        assert not (whole or others), f"{query['sql'][:200]}\n{plan}"


@pytest.mark.django_db(transaction=True)
def test_sending_locks_no_connection(worker, people, installed_backends):
    """A lock is a write, and each step made the row of a broadcast slower to find."""
    if connection.vendor != "postgresql":
        pytest.skip("is about PostgreSQL's locks")
    installed_backends["phones"]["ENGINE"] = Naming
    message = send("news", people(3)).database_message
    before = locks()
    worker.work()
    rows = message.transmissions.select_related("connection")
    assert all(row.external_id == f"id of {row.connection.identity}" for row in rows)
    assert locks() == before


def locks() -> list[str]:
    """Return which transaction has locked each connection last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmax::text FROM rapidsms_connection ORDER BY id")
        return [xmax for (xmax,) in cursor.fetchall()]
