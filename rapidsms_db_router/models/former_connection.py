"""Connections that were deleted: whom old transmissions were from or to."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from rapidsms.models import Connection

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel


class FormerConnection(PrimaryModel):
    """A connection that was deleted.

    Its transmissions go on naming its primary key, so that none of them is changed by that.
    """

    #: The primary key that it had; of the same type, so that a join can use the index.
    connection = models.OneToOneField(
        Connection,
        primary_key=True,
        related_name="+",
        db_column="id",
        db_constraint=False,
        on_delete=models.DO_NOTHING,
    )
    #: Its identity.
    identity = models.CharField(max_length=100)
    #: The name of its backend.
    backend = models.CharField(max_length=75)
    #: When it was deleted.
    deleted = models.DateTimeField(default=now)

    objects = PrimaryManager()

    class Meta(PrimaryModel.Meta):
        # that of a field would have a second one on PostgreSQL, for LIKE
        indexes = (
            models.Index(fields=("identity",), name="former_by_identity"),
            models.Index(fields=("backend",), name="former_by_backend"),
        )

    def __str__(self) -> str:
        return f"{self.identity} via {self.backend}"


class _Accessor(ForwardManyToOneDescriptor):
    def get_object(self, instance: models.Model) -> Any:
        """Return the related row; ``None`` if it was deleted."""
        try:
            return super().get_object(instance)
        except self.field.remote_field.model.DoesNotExist:
            return None


class LooseForeignKey(models.ForeignKey):
    """A foreign key that stays when the row it names is deleted; the object is then ``None``."""

    forward_related_accessor_class = _Accessor
