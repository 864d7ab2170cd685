"""Finding the messages that are for many people, while an hour is tallied."""

from __future__ import annotations

from django.db.models import Count, QuerySet

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.operations.models import Broadcast

#: A message to this many people is a broadcast.
FEWEST = 20


def find(rows: QuerySet[Transmission]) -> None:
    """Note which messages of an hour are broadcasts.

    :param rows: the hour's transmissions.
    """
    counts = rows.order_by().values_list("message").annotate(number=Count("pk"))
    many = dict(counts.filter(number__gte=FEWEST))
    known = Broadcast.objects.filter(message__in=many).values_list("message", flat=True)
    unknown = Message.objects.filter(pk__in=many.keys() - set(known), direction=Direction.OUTGOING)
    Broadcast.objects.bulk_create(
        (Broadcast(message=message, recipients=many[message.pk]) for message in unknown),
        ignore_conflicts=True,
    )
