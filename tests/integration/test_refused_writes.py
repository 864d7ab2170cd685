"""SQLite that refuses to write: who calls ``receive()`` is told, and nothing is half stored.

What PostgreSQL and MariaDB do is for the storms, which have servers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import OperationalError, connection
from rapidsms.models import Connection
from rapidsms.router import receive, send

from rapidsms_db_router.models import Message, Transmission
from tests.integration.conftest import Worker

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="is about SQLite"),
]


@pytest.fixture
def worker(celery_setting: Callable[[str, Any], None]) -> Iterator[Worker]:
    """Have tasks published to a broker in memory, which ``take()`` shows."""
    celery_setting("task_always_eager", False)
    worker = Worker(lambda *, execute: nullcontext())
    worker.take()
    yield worker
    worker.take()


def test_full_disk(worker: Worker, people: Callable[[int], list[Connection]]) -> None:
    everybody = people(500)
    most = set_most_pages(1)  # no more than there are
    try:
        # where a message has room, its transmissions have none
        for recipients in (500, 50, 5):
            until_refused(lambda count=recipients: send("broadcast", everybody[:count]))
        until_refused(lambda: receive("ping", everybody[0]))
    finally:
        set_most_pages(most)
    before = rows()
    worker.take()

    receive("ping", everybody[0])

    assert rows() == (before[0] + 1, before[1] + 1)
    assert [task.name for task in worker.take()] == ["receive_async"]


def until_refused(call: Callable[[], object]) -> None:
    """Call until the database is too full; of that call, nothing may be stored."""
    for _ in range(1000):
        before = rows()
        try:
            call()
        except OperationalError as err:
            assert "full" in str(err)
            assert rows() == before
            return
    raise AssertionError("there is room without end")


def test_read_only_file(
    worker: Worker, person: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = connection.settings_dict["NAME"]
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", f"file:{path}?mode=ro")
        connection.close()
        with pytest.raises(OperationalError, match="readonly"):
            receive("ping 1", person)
        assert rows() == (0, 0)
        connection.close()
    assert worker.take() == []

    receive("ping 1", person)

    assert rows() == (1, 1)
    assert len(worker.take()) == 1


def set_most_pages(count: int) -> int:
    """Limit the size of the database file, to what it is at least; return what the limit was."""
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA max_page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {count}")
    return before


def rows() -> tuple[int, int]:
    """Return how many messages and transmissions are stored."""
    return Message.objects.count(), Transmission.objects.count()
