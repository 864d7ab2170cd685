"""Recovery's thread in every worker."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from celery import bootsteps
from django.db import connections

from rapidsms_db_router import conf, signals
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message, RecoverySchedule
from rapidsms_db_router.recovery import backlog
from rapidsms_db_router.recovery.rescue import MOST, BrokerDown, next_ready, recover, ring

logger = logging.getLogger(__name__)

#: A worker looks again no sooner than this for a batch whose date has come, in seconds.
SHORTEST_PAUSE = 0.5


class RecoveryStep(bootsteps.StartStopStep):
    """Runs :func:`.rescue.recover` in a thread of every worker, in one of many at a time."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="rapidsms_db_router-recovery", daemon=True
        )

    def start(self, parent: Any) -> None:
        """Begin to look, soon after the worker has started."""
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """Begin no other look, and wait for the one under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        pause = min(1.0, conf.recovery_interval())
        while not self._stopping.wait(pause):
            pause = conf.recovery_interval()
            try:
                if RecoverySchedule.objects.claim():
                    while recover().more and self._has_room():
                        pass
                    backlog.follow()
                    signals.tell(signals.recovery_turn, sender=RecoverySchedule)
                else:
                    ring()
                pause = self._pause()
            except BrokerDown:
                pass
            except Exception as exc:  # the database may be back for the next look
                logger.error("recovery_failed error=%s", type(exc).__name__)
                logger.debug("recovery_failed", exc_info=True)
                pause = min(5.0, pause)
            finally:
                connections.close_all()

    def _pause(self) -> float:
        """Return how long to wait: less than the interval, if a batch is due before."""
        pause, date = conf.recovery_interval(), next_ready()
        if date is not None:
            pause = min(pause, (date - now()).total_seconds() + 2 * SHORTEST_PAUSE)
        return max(pause, SHORTEST_PAUSE)

    def _has_room(self) -> bool:
        """Wait until most of what was published is claimed; return whether it soon was.

        Then it was the tasks that had been lost, and there may be more of them.
        """
        deadline = time.monotonic() + conf.visibility_timeout()
        pause = min(conf.recovery_interval() / 10, 1.0)
        while time.monotonic() < deadline and not self._stopping.wait(pause):
            if Message.objects.republished()[:MOST].count() <= MOST / 2:
                return True
        return False
