"""An index that costs nothing where there is nothing to be found."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


class PresentIndex(models.Index):
    """An index of the rows in which its one column is not null; of all rows on MariaDB.

    Django's own ``condition`` is refused where the database has no partial indexes.
    """

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Any:
        """Return the statement that creates the index."""
        index = models.Index(fields=self.fields, name=self.name)
        if schema_editor.connection.features.supports_partial_indexes:
            present = models.Q(**{f"{self.fields[0]}__isnull": False})
            index = models.Index(fields=self.fields, name=self.name, condition=present)
        return index.create_sql(model, schema_editor, using, **kwargs)
