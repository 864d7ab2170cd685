"""What operators do on the pages, in a real browser."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState, Batch, Message, Transmission
from rapidsms_db_router.operations.models import Broadcast
from rapidsms_db_router.operations.tallies import filling
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
    find(browser, By.CSS_SELECTOR, f"button[value={value}]").click()


def find(browser: Any, by: str, words: str) -> Any:
    """Return an element, once the page that is loading has it."""
    return wait_for(words, lambda: browser.find_elements(by, words), 20)[0]


def see(browser: Any, words: str) -> None:
    def is_there() -> bool:
        try:
            return words in browser.find_element(By.TAG_NAME, "body").text
        except WebDriverException:  # the next page is loading
            return False

    wait_for(words, is_there, 20)


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
    find(browser, By.LINK_TEXT, "Back to the broadcast").click()
    see(browser, "Nothing is left to be sent.")
    see(browser, "cancelled")
    assert Transmission.objects.filter(error="cancelled").count() == 16
    told = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in told if "favicon" not in line] == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_backend_is_paused_limited_and_resumed_after_a_question(
    logged_in, live_server, broadcast, width
):
    Batch.objects.update(due_at=now() - 48 * HOUR, ready_at=now() - HOUR)
    backend = Batch.objects.get().backend
    browser = logged_in("pause_backend", "cancel_message", "pause_message", "see_personal")
    browser.set_window_size(width, 900)
    browser.get_log("browser")
    browser.get(live_server.url + reverse("router-operations"))
    find(browser, By.LINK_TEXT, "phones").click()
    see(browser, "16 SMS, 16 of them for more than a day")
    find(browser, By.NAME, "reason").send_keys("the gateway moves")
    press(browser, "pause")
    see(browser, "(the gateway moves)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    find(browser, By.NAME, "rate").send_keys("20/m")
    press(browser, "limits")
    see(browser, "set here")
    assert BackendState.objects.get().rate == "20/m"
    press(browser, "reset")
    see(browser, "The settings count again.")
    find(browser, By.LINK_TEXT, "Resume …").click()
    see(browser, "16 SMS wait and will be sent, 16 of them are older than a day.")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    press(browser, "discard")
    see(browser, "Reason: older than a day")
    press(browser, "start")
    see(browser, "were given up")
    browser.get(live_server.url + reverse("router-resume", args=[backend.pk]))
    see(browser, "Nothing waits for it.")
    find(browser, By.CSS_SELECTOR, "form .btn-primary").click()
    see(browser, "It is called again.")
    assert not BackendState.objects.get().paused
    assert not Batch.objects.exists()
    told = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in told if "favicon" not in line] == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_what_waits_is_moved_to_a_date(logged_in, live_server, broadcast, width):
    Message.objects.filter(pk=broadcast.pk).update(not_before=now() + HOUR)
    Batch.objects.update(due_at=now() + HOUR)
    browser = logged_in("cancel_message", "pause_message", "see_personal")
    browser.set_window_size(width, 900)
    browser.get_log("browser")
    browser.get(live_server.url + reverse("router-waiting"))
    see(browser, "scheduled for later")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    find(browser, By.LINK_TEXT, "scheduled for later").click()
    see(browser, "Clinic opens at 8.")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    press(browser, "move")
    see(browser, "To which date?")
    date = find(browser, By.NAME, "date")
    browser.execute_script("arguments[0].value = '2040-05-01T12:30'", date)
    press(browser, "move")
    see(browser, "The date is 2040-05-01 12:30:00.")
    press(browser, "start")
    see(browser, "It is done.")
    assert Batch.objects.get().ready_at.year == 2040
    told = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in told if "favicon" not in line] == []


@pytest.fixture
def without_scripts(chromium: Any) -> Iterator[None]:
    """A browser that runs no JavaScript of pages."""
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture(params=WIDTHS.values(), ids=WIDTHS)
def opened(request: Any, logged_in: Any, live_server: Any, without_scripts: None) -> Any:
    """A function that opens a page without JavaScript, and sees that it fits and says something."""
    may = "pause_backend cancel_message pause_message resend_message see_personal broadcast"
    browser = logged_in(*may.split())
    browser.set_window_size(request.param, 900)

    def opened(name: str, *words: str, **arguments: Any) -> Any:
        browser.get(live_server.url + reverse(name, kwargs=arguments))
        for each in words:
            see(browser, each)
        assert find(browser, By.CSS_SELECTOR, ".router-log-out button").is_displayed()
        told = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})
        assert told["cssContentSize"]["width"] <= request.param, name
        return browser

    return opened


def test_each_page_is_read_without_javascript(opened, broadcast):
    Batch.objects.update(ready_at=now() - HOUR)
    filling.fill()
    backend = Batch.objects.get().backend
    person = broadcast.transmissions.first().connection
    opened("router-operations", "phones", "working")
    opened("router-messages", "Clinic opens at 8.", person.identity)
    opened("router-conversation", "Clinic opens at 8.", person.identity, pk=person.pk)
    opened("router-broadcasts", "Clinic opens at 8.", "40")
    opened("router-broadcast", "Clinic opens at 8.", "HTTP 403", pk=broadcast.pk)
    opened("router-backend", "phones", "working", pk=backend.pk)
    opened("router-resume", "phones", pk=backend.pk)
    opened("router-waiting", "phones", "ready to be sent")
    opened("router-waiting-group", "Clinic opens at 8.", backend=backend.pk, why="held")
    opened("router-failures", "HTTP 403")
    opened("router-actions")
    browser = opened("router-write", "Text")
    find(browser, By.NAME, "text").send_keys("Clinic")
    assert browser.find_element(By.ID, "segments").text == "", "the browser runs scripts"


def test_the_forms_work_without_javascript(opened, broadcast):
    backend = Batch.objects.get().backend
    browser = opened("router-messages")
    find(browser, By.NAME, "search").send_keys("0700000003")
    find(browser, By.CSS_SELECTOR, "form.well button").click()
    wait_for("the person", lambda: len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 1, 10)
    see(browser, "+254700000003")
    browser = opened("router-broadcast", pk=broadcast.pk)
    press(browser, "pause")
    see(browser, "Paused since")
    press(browser, "go_on")
    see(browser, "Pause, and cancel")
    assert not Message.objects.get(pk=broadcast.pk).paused_at
    browser = opened("router-backend", pk=backend.pk)
    find(browser, By.NAME, "reason").send_keys("the gateway moves")
    press(browser, "pause")
    see(browser, "(the gateway moves)")
    assert BackendState.objects.get().paused
    find(browser, By.LINK_TEXT, "Resume …").click()
    see(browser, "16 SMS wait and will be sent")
    find(browser, By.CSS_SELECTOR, "form .btn-primary").click()
    see(browser, "It is called again.")
    assert not BackendState.objects.get().paused
