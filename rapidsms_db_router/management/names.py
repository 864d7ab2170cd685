"""Names that the arguments of commands give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError
from rapidsms.models import Backend

from rapidsms_db_router.db.connection import alias


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
