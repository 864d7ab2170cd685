"""The language and the time zone that strangers' code is called in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.utils import timezone, translation


@contextmanager
def default_locale() -> Iterator[None]:
    """Have the body run in the language and time zone of the settings.

    What it activates does not outlive it: the next message may be of somebody else.
    """
    with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
        yield
