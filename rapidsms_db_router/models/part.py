"""Parts of long messages of which a gateway speaks one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import models

from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel
from rapidsms_db_router.models.transmission import Transmission


class PartQuerySet(models.QuerySet["Part"]):
    """Parts of transmissions."""

    def replace(self, ids: Mapping[int, Sequence[str]]) -> None:
        """Store the parts that the last call of a backend has named.

        :param ids: the gateway's ids of the parts, by the transmission's primary key.
        """
        self.filter(transmission__in=ids).delete()
        self.bulk_create(
            Part(transmission_id=pk, external_id=external_id)
            for pk, of_parts in ids.items()
            for external_id in of_parts
        )


class Part(PrimaryModel):
    """One part of a transmission that takes several SMS.

    Most transmissions have none: there is a row for each of several ids that a backend has
    returned, and one for what failed of a long message without such ids.
    """

    #: The transmission.
    transmission = models.ForeignKey(
        Transmission,
        related_name="parts",
        on_delete=models.CASCADE,
        db_index=False,  # the unique constraint's index begins with it
    )
    #: The gateway's own id of the part; empty for a part that it does not name.
    external_id = models.CharField(max_length=255, blank=True)
    #: What was reported of it; see :class:`~rapidsms_db_router.choices.Outcome`.
    outcome = models.CharField(max_length=9, choices=Outcome.choices, blank=True)

    objects = PrimaryManager.from_queryset(PartQuerySet)()

    class Meta(PrimaryModel.Meta):
        constraints = (
            models.UniqueConstraint(fields=("transmission", "external_id"), name="one_row_a_part"),
        )
        indexes = (models.Index(fields=("external_id", "id"), name="part_by_external_id"),)

    def __str__(self) -> str:
        return f"{self.transmission_id}: {self.external_id}"
