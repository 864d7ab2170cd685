"""Brokers' transports, where they differ from Celery's own."""

from __future__ import annotations

import kombu
import pytest

from tests.servers import BROKERS, require


def test_a_redis_channel_says_that_its_connection_is_gone():
    require("redis")
    connection = kombu.Connection(BROKERS["redis"])
    channel = connection.channel()
    lost = connection.connection_errors
    connection.release()
    with pytest.raises(lost):
        channel.basic_ack("handed out before")
