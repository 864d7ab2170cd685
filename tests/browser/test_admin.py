"""The lists of the admin in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from rapidsms.models import Connection
from selenium.webdriver.common.by import By

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Message
from tests.browser.conftest import WIDTHS

TEXT = "Dear mother, the clinic opens at 8 on Monday; bring the child's card, please. "
ERROR = "HTTPError: HTTPSConnectionPool(host='gateway.example.org', port=443): HTTP 503 Unavailable"


@pytest.fixture
def full_rows(transactional_db: None, people: Any) -> None:
    """Messages and transmissions with something long in every column."""
    connections = people(30, "the-national-operator-gateway")
    Connection.objects.filter(pk=connections[0].pk).update(identity="+2547" + "0" * 60)
    for connection in connections:
        columns = {"status": Status.ERRORED, "error": ERROR * 2, "sent": now()}
        message = Message.objects.create(
            direction=Direction.OUTGOING, text=(TEXT * 3)[:160], **columns
        )
        message.transmissions.create(connection=connection, attempts=12, next_try=now(), **columns)


@pytest.fixture(params=["light", "dark"])
def scheme(request: Any, chromium: Any) -> Iterator[None]:
    """The colours that the browser asks pages for."""
    for value in (request.param, ""):
        media = {"features": [{"name": "prefers-color-scheme", "value": value}]}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        if value:
            yield


@pytest.mark.parametrize("page", ["message", "transmission"])
@pytest.mark.usefixtures("full_rows", "scheme")
def test_a_list_of_the_admin_fits_the_screen(logged_in, live_server, page):
    browser = logged_in()
    User.objects.update(is_staff=True, is_superuser=True)
    browser.set_window_size(WIDTHS["screen"], 900)
    browser.get(f"{live_server.url}/admin/rapidsms_db_router/{page}/")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280
    # the admin has a list scroll by itself, in the middle of the page
    table = browser.find_element(By.CSS_SELECTOR, ".results")
    assert table.get_property("scrollWidth") <= table.get_property("clientWidth")
    assert len(table.find_elements(By.CSS_SELECTOR, "tbody tr")) == 30
