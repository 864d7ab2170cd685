"""Names that the arguments of commands give."""

from __future__ import annotations

import os
from collections.abc import Iterable
from getpass import getuser
from typing import Any

from django.core.management.base import CommandError
from rapidsms.models import Backend

from rapidsms_db_router.db.connection import alias


def operator(command: str) -> str:
    """Return by which name what a command does is kept: its own, and that of the system's user."""
    try:
        user = getuser()
    except (ImportError, KeyError, OSError):  # a container may have no entry for its user
        user = str(os.getuid())
    return f"manage.py {command} ({user})"


def backends(names: Iterable[Any]) -> list[Backend]:
    """Return the backends of these names.

    :raises CommandError: for a name that no backend has.
    """
    known = {backend.name: backend for backend in Backend.objects.using(alias()).order_by("name")}
    for name in (names := list(names)):
        if str(name) not in known:
            there = ", ".join(known) or "none"
            raise CommandError(f"There is no backend {name!r}; there are: {there}.")
    return [known[str(name)] for name in names]
