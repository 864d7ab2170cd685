"""The pages in a real browser."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.urls import reverse
from selenium.webdriver.common.by import By

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import BackendState, Message, Transmission
from rapidsms_db_router.operations.tallies import filling
from tests.acceptance.running import wait_for
from tests.browser.conftest import WIDTHS

HOUR = datetime.timedelta(hours=1)


def store(connection: Any, status: str, text: str = "Clinic opens at 8.", **columns: Any) -> None:
    message = Message.objects.create(direction=Direction.OUTGOING, text=text, status=status)
    Transmission.objects.create(message=message, connection=connection, status=status, **columns)


@pytest.fixture
def outage(transactional_db: None, people: Any) -> Any:
    """A backend that is out of order, with transmissions of every status."""
    first, *rest = people(30)
    for connection in rest:
        store(connection, Status.DELIVERED, sent=now(), delivered=now())
    store(first, Status.ERRORED, error="HTTPError: HTTP 403")
    BackendState.objects.create(
        backend=first.backend,
        failures=3,
        open_until=now() + HOUR,
        opened_at=now(),
        reason="HTTPError: HTTP 403",
    )
    filling.fill()
    return first.backend


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("page", ["router-operations", "router-messages"])
def test_a_page_fits_the_screen_and_logs_no_error(logged_in, live_server, outage, page, width):
    browser = logged_in("see_personal", "export")
    browser.set_window_size(width, 900)
    browser.get_log("browser")
    browser.get(live_server.url + reverse(page))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.find_element(By.TAG_NAME, "h1").is_displayed()
    told = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in told if "favicon" not in line] == []


def test_the_page_follows_an_incident_by_itself(logged_in, live_server, outage):
    browser = logged_in()
    browser.get(live_server.url + reverse("router-operations"))
    incident = browser.find_element(By.CLASS_NAME, "router-incident").text
    assert "phones is out of order" in incident
    browser.execute_script("document.querySelector('details').open = true; window.scrollTo(0, 300)")
    BackendState.objects.filter(backend=outage).update(open_until=None, opened_at=None, failures=0)
    wait_for(
        "the incident to go",
        lambda: not browser.find_elements(By.CLASS_NAME, "router-incident"),
        20,
    )
    assert browser.execute_script("return document.querySelector('details').open")
    assert browser.execute_script("return window.scrollY") == 300


def test_a_number_is_found_from_the_page(logged_in, live_server, outage):
    browser = logged_in("see_personal")
    browser.get(live_server.url + reverse("router-messages"))
    box = browser.find_element(By.NAME, "search")
    box.send_keys("0700000000")
    box.submit()
    wait_for("the person", lambda: len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 1, 10)
    browser.find_element(By.CSS_SELECTOR, "tbody a").click()
    wait_for("the conversation", lambda: "Conversation" in browser.title, 10)
    assert "Clinic opens at 8." in browser.page_source
