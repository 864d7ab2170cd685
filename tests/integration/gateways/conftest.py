"""A gateway, and the examples of the documentation."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.urls import clear_url_caches

from tests.integration.gateways import stub

ENVIRONMENT = {
    "SECRET": "of the gateway",
    "AT_API_KEY": "the key",
    "TWILIO_ACCOUNT_SID": "AC1",
    "TWILIO_AUTH_TOKEN": "the token",
    "VONAGE_API_KEY": "a1",
    "VONAGE_API_SECRET": "s1",
    "INFOBIP_API_KEY": "the key",
}


@pytest.fixture
def gateway() -> Iterator[stub.Gateway]:
    """A gateway that can be asked."""
    with stub.running() as gateway:
        yield gateway


@pytest.fixture
def example(
    gateway: stub.Gateway, installed_backends: Any, monkeypatch: Any, settings: Any
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that installs an example of the documentation, with the gateway's own URL."""

    def example(name: str) -> dict[str, Any]:
        for key, value in ENVIRONMENT.items():
            monkeypatch.setenv(key, value)
        path = f"tests.integration.gateways.{name}"
        sys.modules.pop(path, None)
        module = importlib.import_module(path)
        backend = dict(module.BACKEND)
        rest = backend["url"].partition("://")[2]
        backend["url"] = f"{gateway.url}/{rest.partition('/')[2]}"
        installed_backends["gateway"] = backend
        settings.ROOT_URLCONF = tuple(module.VIEWS)
        clear_url_caches()
        return backend

    yield example
    clear_url_caches()
