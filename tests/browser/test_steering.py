"""What operators do on the pages, in a real browser."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.urls import reverse
from selenium.webdriver.common.by import By

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.operations.models import Broadcast
from tests.acceptance.running import wait_for
from tests.browser.conftest import WIDTHS

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def broadcast(transactional_db: None, people: Any) -> Message:
    """A broadcast that is half sent, with some failures."""
    message = Message.objects.create(
        direction=Direction.OUTGOING, text="Clinic opens at 8.", status=Status.ERRORED
    )
    connections = people(40)
    states = [{"status": "S", "sent": now()}] * 20 + [{"status": "E", "error": "HTTP 403"}] * 4
    states += [{"status": "Q"}] * 16
    for connection, columns in zip(connections, states, strict=True):
        Transmission.objects.create(message=message, connection=connection, **columns)
    rows = message.transmissions.filter(status="Q").values_list("pk", flat=True)
    backend = connections[0].backend
    Batch.objects.create(
        message=message, backend=backend, transmission_ids=sorted(rows), ready_at=now() + HOUR
    )
    Broadcast.objects.create(message=message, recipients=40)
    return message


def press(browser: Any, value: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f"button[value={value}]").click()


def see(browser: Any, words: str) -> None:
    wait_for(words, lambda: words in browser.find_element(By.TAG_NAME, "body").text, 20)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_broadcast_is_paused_goes_on_and_is_cancelled(logged_in, live_server, broadcast, width):
    browser = logged_in("see_personal", "pause_message", "cancel_message", "resend_message")
    browser.set_window_size(width, 900)
    browser.get_log("browser")
    browser.get(live_server.url + reverse("router-broadcast", args=[broadcast.pk]))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    see(browser, "Repeat to 4 who failed")
    press(browser, "pause")
    see(browser, "Paused since")
    press(browser, "go_on")
    see(browser, "Pause, and cancel")
    assert not Message.objects.get(pk=broadcast.pk).paused_at
    press(browser, "cancel")
    see(browser, "16 transmissions that wait will be given up.")
    press(browser, "start")
    see(browser, "16 transmissions that wait were given up.")
    browser.find_element(By.LINK_TEXT, "Back to the broadcast").click()
    see(browser, "Nothing is left to be sent.")
    see(browser, "cancelled")
    assert Transmission.objects.filter(error="cancelled").count() == 16
    told = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in told if "favicon" not in line] == []
