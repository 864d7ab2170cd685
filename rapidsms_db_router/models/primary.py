"""Where this app's rows are read: where they are written, not from a replica that lags behind."""

from __future__ import annotations

from typing import TypeVar

from django.db import models

from rapidsms_db_router.db.connection import alias

M = TypeVar("M", bound=models.Model)


class PrimaryManager(models.Manager[M]):
    """Selects from the database that is written, unless the caller names another.

    Each model has it as its base manager, too: related objects are read by that.
    """

    def get_queryset(self) -> models.QuerySet[M]:
        """Return all rows, whatever ``DATABASE_ROUTERS`` say of reading."""
        queryset = super().get_queryset()
        return queryset if self._db else queryset.using(alias())
