"""Actions of the admin, as a browser runs them."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client


def ask(client: Client, page: str, action: str, *pks: int, **more: Any) -> Any:
    """Choose an action for rows; return what the browser shows then."""
    return client.post(page, {"action": action, "_selected_action": pks, **more}, follow=True)


def confirm(client: Client, page: str, question: Any) -> Any:
    """Send the form of a confirmation page."""
    inputs = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', question.content.decode())
    return client.post(page, dict(inputs), follow=True)


def act(client: Client, page: str, action: str, *pks: int, **more: Any) -> Any:
    """Choose an action for rows, confirm it if asked, and return the page that follows."""
    response = ask(client, page, action, *pks, **more)
    return confirm(client, page, response) if b'name="confirmed"' in response.content else response
