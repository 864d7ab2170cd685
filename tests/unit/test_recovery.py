"""What looking for lost work costs, how patient it is, and whose turn it is."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rapidsms.models import Backend

from rapidsms_db_router import recovery
from rapidsms_db_router.clock import now
from rapidsms_db_router.models import Batch, Message, RecoveryTurn
from rapidsms_db_router.recovery import LONGEST_PATIENCE, recover

pytestmark = pytest.mark.django_db


@pytest.fixture
def full_tables():
    """Thousands of rows, done, waiting, or in the hands of somebody, and none of them lost."""
    later = now() + timedelta(minutes=5)
    backend = Backend.objects.create(name="phones")
    Message.objects.bulk_create(
        Message(text="text", direction="O", due=None if n % 20 else later) for n in range(4000)
    )
    message = Message.objects.order_by("pk").first()
    Batch.objects.bulk_create(
        Batch(
            message=message,
            backend=backend,
            transmission_ids=[n],
            first_id=n,
            due=None if n % 20 else later,
        )
        for n in range(4000)
    )


def test_looking_costs_the_same_whatever_the_tables_hold(request, django_assert_num_queries):
    now()  # asks the database now and then, here once for both
    with django_assert_num_queries(2):
        recover()
    request.getfixturevalue("full_tables")
    with django_assert_num_queries(2):
        assert recover().counts() == recovery.Found().counts()


def test_looking_reads_what_is_due_and_no_more(full_tables):
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}.get(connection.vendor)
    if explain is None:
        pytest.skip("plans are read on SQLite and PostgreSQL")
    with CaptureQueriesContext(
        connection,
    ) as looked:
        recover()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        for table, query in zip(("batch", "message"), looked.captured_queries, strict=True):
            cursor.execute(f"{explain} {query['sql']}")
            plan = "\n".join(str(row) for row in cursor.fetchall())
            assert re.search(rf"(?i)index.* rapidsms_db_router_{table}_due_", plan), plan


@pytest.mark.parametrize(
    ("calls", "patience"),
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
def test_patience_doubles_with_each_call_nobody_answers(settings, calls, patience):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 10
    assert (recovery._patience(calls) - now()).total_seconds() == pytest.approx(patience, abs=1)


def test_patience_is_never_less_than_the_visibility_timeout(settings):
    settings.DB_ROUTER_VISIBILITY_TIMEOUT = 2 * LONGEST_PATIENCE
    patience = recovery._patience(3) - now()
    assert patience.total_seconds() == pytest.approx(2 * LONGEST_PATIENCE, abs=1)


def test_the_turn_comes_once_an_interval(settings):
    settings.DB_ROUTER_RECOVERY_INTERVAL = 100
    assert RecoveryTurn.objects.take()
    assert not RecoveryTurn.objects.take()
    assert RecoveryTurn.objects.get().due - now() > timedelta(seconds=95)
    RecoveryTurn.objects.update(due=now() + timedelta(seconds=50))
    assert not RecoveryTurn.objects.take()
    RecoveryTurn.objects.update(due=now())
    assert RecoveryTurn.objects.take()
    assert not RecoveryTurn.objects.take()
