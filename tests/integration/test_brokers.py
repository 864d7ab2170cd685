"""Brokers' transports, where they differ from Celery's own."""

from __future__ import annotations

import os
import stat

import kombu
import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from tests.servers import BROKERS, require


def test_a_redis_channel_says_that_its_connection_is_gone():
    require("redis")
    connection = kombu.Connection(BROKERS["redis"])
    channel = connection.channel()
    lost = connection.connection_errors
    connection.release()
    with pytest.raises(lost):
        channel.basic_ack("handed out before")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("refusal", [OutOfMemoryError, ReadOnlyError])
def test_a_redis_that_refuses_counts_as_one_that_is_away(scheme, refusal):
    assert issubclass(refusal, kombu.Connection(f"{scheme}://").connection_errors)


def test_files_of_the_file_system_broker_are_for_one_user_alone(tmp_path):
    folder, control = tmp_path / "tasks", tmp_path / "control"
    folder.mkdir()
    connection = kombu.Connection(
        "filesystem://",
        transport="rapidsms_db_router.brokers.filesystem.Transport",
        transport_options={
            "data_folder_in": str(folder),
            "data_folder_out": str(folder),
            "control_folder": str(control),
        },
    )
    mask = os.umask(0)
    try:
        queue = connection.SimpleQueue("tasks")
        queue.put({"id": 1})
    finally:
        os.umask(mask)
    files = [*folder.iterdir(), *control.iterdir()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(control.stat().st_mode) == 0o700
    assert queue.get(timeout=1).payload == {"id": 1}
    queue.close()
    connection.release()
