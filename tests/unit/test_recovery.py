"""What a look for lost work costs, how patient recovery is, and which worker looks."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, RecoverySchedule
from rapidsms_db_router.recovery import Found, recover, rescue
from rapidsms_db_router.recovery.rescue import LONGEST_PATIENCE

pytestmark = pytest.mark.django_db


@pytest.fixture
def full_tables():
    """Thousands of rows: done, waiting for their date, or claimed; none of them is lost."""
    later = now() + timedelta(minutes=5)
    backend = Backend.objects.create(name="phones")
    Message.objects.bulk_create(
        Message(text="text", direction="O", recover_at=None if n % 20 else later)
        for n in range(4000)
    )
    message = Message.objects.order_by("pk").first()
    Batch.objects.bulk_create(
        Batch(
            message=message,
            backend=backend,
            transmission_ids=[n],
            position=n,
            ready_at=later,
            claim_token=None if n % 20 else uuid.uuid4(),
            recover_at=None if n % 20 else later,
        )
        for n in range(4000)
    )


def looked_queries():
    with CaptureQueriesContext(connection) as looked:
        assert recover().counts() == Found().counts()
    return [query["sql"] for query in looked.captured_queries]


def test_looking_costs_the_same_whatever_the_tables_hold(request):
    now()  # asks the database now and then, here once for both
    before = looked_queries()
    request.getfixturevalue("full_tables")
    assert len(looked_queries()) == len(before) == 6


def test_looking_reads_what_is_due_and_no_more(full_tables):
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}.get(connection.vendor)
    if explain is None:
        pytest.skip("plans are read on SQLite and PostgreSQL")
    indexes = ("claimed_batch", "message_to_recover")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        for index, query in zip(indexes, looked_queries(), strict=False):
            cursor.execute(f"{explain} {query}")
            plan = "\n".join(str(row) for row in cursor.fetchall())
            assert re.search(rf"(?i)index.* {index}", plan), plan


@pytest.mark.parametrize(
    ("publishes", "patience"),
    [
        (0, 10),
        (1, 20),
        (2, 40),
        (3, 80),
        (8, 2560),
        (9, LONGEST_PATIENCE),
        (1000, LONGEST_PATIENCE),
    ],
)
def test_patience_doubles_with_each_task_that_no_worker_runs(settings, publishes, patience):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 10
    assert (rescue._patience(publishes) - now()).total_seconds() == pytest.approx(patience, abs=1)


def test_patience_is_never_less_than_the_visibility_timeout(settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 2 * LONGEST_PATIENCE
    patience = rescue._patience(3) - now()
    assert patience.total_seconds() == pytest.approx(2 * LONGEST_PATIENCE, abs=1)


def test_one_worker_looks_in_each_interval(settings):
    settings.DB_ROUTER_RECOVERY_INTERVAL = 100
    assert RecoverySchedule.objects.claim()
    assert not RecoverySchedule.objects.claim()
    assert RecoverySchedule.objects.get().next_look - now() > timedelta(seconds=95)
    RecoverySchedule.objects.update(next_look=now() + timedelta(seconds=50))
    assert not RecoverySchedule.objects.claim()
    RecoverySchedule.objects.update(next_look=now())
    assert RecoverySchedule.objects.claim()
    assert not RecoverySchedule.objects.claim()
