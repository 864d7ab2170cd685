"""Chromium, and a user who is logged in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from selenium import webdriver

from tests.servers import ALL_REQUIRED

#: The widths at which pages are looked at: a screen, and a phone.
WIDTHS = {"screen": 1280, "phone": 390}


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser without a window; without Chromium the test is skipped, under CI it fails."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        why = "Chromium is missing; on Debian: apt install chromium chromium-driver"
        pytest.fail(why) if ALL_REQUIRED else pytest.skip(why)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture
def logged_in(
    chromium: webdriver.Chrome, live_server: Any, transactional_db: None
) -> Callable[..., webdriver.Chrome]:
    """A function that returns a browser in which a user with some permissions is logged in."""

    def logged_in(*names: str) -> webdriver.Chrome:
        user = User.objects.create_user(f"user{User.objects.count()}")
        codes = ["view_message", *names]
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
        client = Client()
        client.force_login(user)
        chromium.get(live_server.url + "/operations/health/live")
        cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "path": "/"}
        chromium.add_cookie(cookie)
        return chromium

    return logged_in
