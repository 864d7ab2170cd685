"""Old messages come over while both routers work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from rapidsms.router import receive

from rapidsms_db_router.db.transient import insist
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.moving_in import keys
from rapidsms_db_router.moving_in.dialects import dialect
from tests.acceptance.running import wait_for

#: Texts that come in during each move.
TEXTS = 30


@contextmanager
def again_and_again(work: Callable[[int], Any]) -> Iterator[list[Any]]:
    """Do something in a thread until the body ends; yield what was done so far."""
    done: list[Any] = []
    failed: list[BaseException] = []
    stopping = threading.Event()

    def run() -> None:
        try:
            while not stopping.is_set():
                done.append(insist(lambda: work(len(done))))
        except BaseException as exc:
            failed.append(exc)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
        wait_for("texts to come in", lambda: failed or len(done) >= TEXTS)
    finally:
        stopping.set()
        thread.join()
    assert failed == []


def test_texts_come_in_while_old_ones_come_over(old, move, worker, monkeypatch):
    monkeypatch.setattr(type(dialect()), "chunk", 20)
    for number in range(200):
        old.store("SQDPE"[number % 5 :][:2])
    to = old.connections[0]
    keys.begin_above(connections["default"])
    with (
        again_and_again(lambda number: receive(f"text {number}", to).dbm.pk) as received,
        again_and_again(lambda number: old.store("Q", "I").pk) as stored,
    ):
        move()
        move()
    # the old router has ended: the last run brings the rest
    old.transmissions.filter(message__in=stored).update(status="R")
    said = move()
    assert "All old rows are here." in said
    texts = Message.objects.filter(pk__gt=keys.GAP)
    assert sorted(texts.values_list("pk", flat=True)) == sorted(received)
    assert len(set(texts.values_list("text", flat=True))) == len(received)
    assert Message.objects.count() == old.messages.count() + len(received)
    assert Transmission.objects.count() == old.transmissions.count() + len(received)
    moved = Message.objects.filter(pk__in=stored)
    assert set(moved.values_list("status", flat=True)) == {"R"}
