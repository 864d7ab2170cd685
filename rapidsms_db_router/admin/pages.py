"""Links to the operators' pages of what the admin shows, where the project has those pages."""

from __future__ import annotations

from django.apps import apps
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from rapidsms_db_router import personal


def address(name: str, pk: int | None) -> str | None:
    """Return the address of a page; ``None`` if the project has no such pages.

    :param name: the name of its URL pattern.
    :param pk: what it is about; ``None``: nothing.
    """
    if pk is None or not apps.is_installed(personal.OPERATIONS):
        return None
    try:
        return reverse(name, args=[pk])
    except NoReverseMatch:  # the app is installed, and its URLs are not
        return None


def linked(text: str, url: str | None) -> str:
    """Return a text as a link, or as it is if there is no address."""
    return text if url is None else format_html('<a href="{}">{}</a>', url, text)
