"""Brokers' transports, where they differ from Celery's own."""

from __future__ import annotations

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
