"""kombu's transports for Redis, which a worker survives when Redis goes away."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis
from redis.exceptions import ConnectionError, ResponseError


class Channel(redis.Channel):
    """Says that its connection is gone, once it is; and waits for no answer for ever.

    kombu's own raises ``AttributeError`` where it gives back, or acknowledges, a task that was
    handed out over a connection that is closed by now. Celery takes that for a fault that cannot
    be mended, and ends the worker; a connection that is lost it opens again.
    """

    #: In seconds; a worker asks for tasks again each second, so that Redis answers far sooner.
    socket_timeout: Any = 5
    socket_connect_timeout: Any = 5
    socket_keepalive: Any = True

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the client of the pool; kombu's own makes another for every command."""
        if asynchronous:
            return super()._create_client(asynchronous)
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()
        return self._kept

    def _connparams(self, *args: Any, **options: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("The connection is closed.")
        return super()._connparams(*args, **options)


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same, to the Redis that Sentinel names."""


#: A server that refuses a command, as it does when it is demoted, out of memory or unable to write
#: to its disk, counts as one that is away: a worker connects again until there is one that obeys.
LOST = (*redis.Transport.connection_errors, ResponseError)


class Transport(redis.Transport):
    """What ``redis://`` and ``rediss://`` stand for where this app is installed."""

    Channel = Channel
    connection_errors = LOST


class SentinelTransport(redis.SentinelTransport):
    """What ``sentinel://`` stands for where this app is installed."""

    Channel = SentinelChannel
    connection_errors = LOST
