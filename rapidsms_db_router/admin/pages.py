"""Links to the operators' pages of what the admin shows, where the project has those pages.

A link is shown to a user who may open where it leads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.apps import apps
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html

from rapidsms_db_router import personal


class Linking:
    """Part of an admin: leaves out the links that its user may not follow."""

    #: By column with a link: the permission to open where it leads, and the column in its place.
    linking: ClassVar[dict[str, tuple[str, str]]] = {}

    def followed(self, request: HttpRequest, columns: Iterable[Any]) -> tuple[Any, ...]:
        """Put columns without a link in place of those whose links the user may not follow."""
        placed = []
        for column in columns:
            permission, plain = self.linking.get(str(column), ("", column))
            may = not permission or request.user.has_perm(permission)
            placed.append(column if may else plain)
        return tuple(placed)

    def render_change_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show the button to the operators' page to a user who may open that."""
        usual: Any = super()
        answer = usual.render_change_form(request, *args, **kwargs)
        if not request.user.has_perm(personal.VIEW):
            answer.context_data["has_absolute_url"] = False
        return answer


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
