"""Batches: how a message is cut into them, and which queue their doorbell rings in."""

from __future__ import annotations

import pytest
from celery import current_app
from django.db import connection
from rapidsms.models import Connection
from rapidsms.router import receive, send

from rapidsms_db_router import conf
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.models.batch import REPLY

pytestmark = pytest.mark.django_db


def stored(worker, connections):
    with worker.commit():
        return send("news", connections).database_message


def test_batches_are_cut_by_the_database_as_python_would_divide_them(
    worker, people, settings, installed_backends
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 7
    installed_backends["small"] = installed_backends["phones"] | {"router.db.batch_size": 3}
    message = stored(worker, [*people(30), *people(10, "small"), *people(5, "other")])
    groups = message.transmissions.groups(size_of=conf.claim_size)
    divided = [(group.backend_id, group.ids) for group in groups]
    cut = [(batch.backend_id, batch.transmission_ids) for batch in message.batches.all()]
    assert sorted(cut) == sorted(divided)
    for backend_id in {backend_id for backend_id, _ in cut}:
        batches = message.batches.filter(backend=backend_id).order_by("position")
        firsts = [batch.transmission_ids[0] for batch in batches]
        assert [batch.position for batch in batches] == list(range(len(batches)))
        assert firsts == sorted(firsts)


@pytest.mark.parametrize("mode", ["STRICT_TRANS_TABLES", ""])
def test_no_variable_of_mariadb_cuts_the_list_of_a_batch(worker, people, mode):
    if connection.vendor != "mysql":
        pytest.skip("is about MariaDB's group_concat_max_len")
    connections = people(50)
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        before = cursor.fetchone()
        cursor.execute("SET SESSION group_concat_max_len = 16, sql_mode = %s", [mode])
    try:
        message = stored(worker, Connection.objects.filter(backend=connections[0].backend))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION group_concat_max_len = DEFAULT, sql_mode = %s", before)
    assert len(message.batches.get().transmission_ids) == 50


@pytest.mark.parametrize(("call", "batch"), [(1, 20), (3, 18), (20, 20), (50, 50)])
def test_a_batch_holds_whole_calls(worker, people, settings, installed_backends, call, batch):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 20
    installed_backends["phones"]["router.db.batch_size"] = call
    message = stored(worker, people(101))
    sizes = [len(each.transmission_ids) for each in message.batches.order_by("position")]
    assert sizes[:-1] == [batch] * (101 // batch)


def test_a_broadcast_at_one_recipient_a_call_leaves_few_dead_batches_behind(
    worker, people, settings, installed_backends
):
    """While a long transaction elsewhere is open, each claim walks over the dead ones before it."""
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 100
    installed_backends["phones"]["router.db.batch_size"] = 1
    message = stored(worker, people(500))
    assert message.batches.count() == 5


def test_a_reply_stands_before_all_broadcasts(worker, person, installed_backends):
    installed_backends["phones"]["router.db.queue"] = "replies"  # of another worker
    with worker.commit():
        receive("ping", person)
    worker.work()
    assert Batch.objects.get(message__text="pong").position == REPLY < 0
    assert Message.objects.get(text="pong").batches.get().claim_token is None


def test_a_backend_with_a_queue_of_its_own_has_its_doorbells_there(
    worker, people, installed_backends, calls
):
    installed_backends["slow"] = installed_backends["phones"] | {"router.db.queue": "lane"}
    message = stored(worker, [*people(1), *people(1, "slow")])
    worker.work()
    assert [call.backend for call in calls] == ["phones"]
    with current_app.connection_for_read() as broker:
        queue = broker.SimpleQueue("lane", no_ack=True)
        _, kwargs, _ = queue.get_nowait().payload
        queue.close()
    (batch,) = message.batches.all()
    assert kwargs["transmission_ids"] == batch.transmission_ids
