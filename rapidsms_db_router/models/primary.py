"""Where this app's rows are read: where they are written, not from a replica that lags behind."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from django.db import models

from rapidsms_db_router.db.connection import alias

M = TypeVar("M", bound=models.Model)


class PrimaryManager(models.Manager[M]):
    """Selects from the database that is written, unless the caller names another."""

    def get_queryset(self) -> models.QuerySet[M]:
        """Return all rows, whatever ``DATABASE_ROUTERS`` say of reading."""
        queryset = super().get_queryset()
        return queryset if self._db else queryset.using(alias())


class PrimaryModel(models.Model):
    """A table of this app: related objects, too, are read by the model's own ``objects``.

    It has no permissions but those that a model names: nothing in it is added, changed or deleted
    by hand.
    """

    class Meta:
        abstract = True
        base_manager_name = "objects"
        default_permissions: ClassVar[tuple[str, ...]] = ()
