"""Sends 100,000 failed messages again from the page Failures, while a worker runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import django

django.setup()

from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from rapidsms.models import Connection  # noqa: E402

from benchmarks.pages.asking import everybody  # noqa: E402
from benchmarks.pages.table import Table  # noqa: E402
from rapidsms_db_router.choices import Direction, Status  # noqa: E402
from rapidsms_db_router.db.clock import now  # noqa: E402
from rapidsms_db_router.models import BulkAction, Message, Transmission  # noqa: E402
from rapidsms_db_router.operations.tallies.hours import HOUR  # noqa: E402
from tests.acceptance.running import wait_for  # noqa: E402

#: Messages of one person each, which have failed.
COUNT = 100_000
REASON = "all of them failed"
PATIENCE = 300


def fail(reason: str) -> None:
    """Store messages that have failed."""
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True)[0]
    said: dict[str, Any] = {"date": now(), "status": Status.ERRORED}
    message = {"direction": Direction.OUTGOING, "text": "again", "given_up": True}
    Message.objects.bulk_create((Message(**message, **said) for _ in range(COUNT)), batch_size=2000)
    keys = Message.objects.filter(pk__gt=newest, text="again").order_by("pk")
    people = Connection.objects.order_by("pk").values_list("pk", flat=True)[:COUNT]
    pairs = zip(keys.values_list("pk", flat=True), people, strict=True)
    Transmission.objects.bulk_create(
        (
            Transmission(message_id=key, connection_id=whom, error=reason, attempts=1, **said)
            for key, whom in pairs
        ),
        batch_size=2000,
    )


def choose(client: Client, reason: str) -> BulkAction:
    """Choose the group on the page."""
    group = {
        "backend": "gateway",
        "direction": Direction.OUTGOING.value,
        "reason": reason,
        "since": (now() - HOUR).isoformat(),
    }
    answer = client.post(reverse("router-failures"), group)
    assert answer.status_code == 302, answer.content
    action = BulkAction.objects.order_by("-pk")[0]
    assert action.total == COUNT, action
    return action


def act(client: Client, action: BulkAction, asked: str) -> None:
    """Click a button of the action's page."""
    client.post(reverse("router-action", args=[action.pk]), {"do": asked})


def main(folder: str) -> None:
    """Send them again; then do so once more, and stop it."""
    table, client, log = Table(), everybody(), Path(folder) / "gateway.calls"
    fail(REASON)
    begun = time.monotonic()
    action = choose(client, REASON)
    table.row("send again: chosen", f"{time.monotonic() - begun:.1f} s")
    size = log.stat().st_size if log.exists() else 0
    begun = time.monotonic()
    act(client, action, "start")
    table.row("send again: the click", f"{time.monotonic() - begun:.1f} s")
    wait_for("the first SMS", lambda: log.exists() and log.stat().st_size > size)
    table.row("send again: first SMS", f"{time.monotonic() - begun:.1f} s")

    def done() -> bool:
        action.refresh_from_db()
        return action.state == BulkAction.State.DONE

    wait_for("all to be queued", done, PATIENCE)
    table.row(f"send again: {action.changed:,} queued", f"{time.monotonic() - begun:.1f} s")
    fail(f"{REASON} again")
    action = choose(client, f"{REASON} again")
    act(client, action, "start")
    time.sleep(3)
    begun = time.monotonic()
    act(client, action, "stop")
    took = time.monotonic() - begun
    action.refresh_from_db()
    handled = action.handled
    time.sleep(3)
    action.refresh_from_db()
    assert action.handled == handled, action
    table.row(f"send again: stopped at {handled:,}", f"{took:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
