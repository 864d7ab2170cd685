"""A sender that has no time to wait goes on."""

from __future__ import annotations

import threading

from rapidsms_db_router.outbound.sender import Sender

#: How long all the waits of no time may take, in seconds.
PATIENCE = 60


def test_a_wait_of_no_time_ends_on_a_machine_that_has_much_to_do():
    """Python 3.10's queue may wait for ever where the processor is given to others meanwhile."""
    sender, over = Sender(None), threading.Event()

    def waits():
        for _ in range(20_000):
            sender.drain()
            assert sender.wait(0.0)
            assert not sender.wait(0.0)
        over.set()

    def works():
        while not over.is_set():
            pass

    others = [threading.Thread(target=works) for _ in range(3)]
    waiting = threading.Thread(target=waits, daemon=True)
    for thread in (*others, waiting):
        thread.start()
    try:
        assert over.wait(PATIENCE)
    finally:
        over.set()
        for thread in others:
            thread.join()
