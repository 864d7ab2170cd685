"""Indexes of some rows only."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


class PartialIndex(models.Index):
    """An index of the rows in which one column is, or is not, null; of all rows on MariaDB.

    Django's own ``condition`` is refused where the database has no partial indexes.

    :param null: the column.
    :param present: whether the index has the rows in which the column is not null.
    """

    def __init__(self, *args: Any, null: str, present: bool = True, **kwargs: Any) -> None:
        self.null, self.present = null, present
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Return what a migration needs to make the index again."""
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "null": self.null, "present": self.present}

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Any:
        """Return the statement that creates the index."""
        condition = None
        if schema_editor.connection.features.supports_partial_indexes:
            condition = models.Q(**{f"{self.null}__isnull": not self.present})
        index = models.Index(fields=self.fields, name=self.name, condition=condition)
        return index.create_sql(model, schema_editor, using, **kwargs)
