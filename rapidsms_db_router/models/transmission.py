"""Transmissions: one message from or to one connection."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from rapidsms.models import Connection

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Status, in_words
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models.former_connection import FormerConnection, LooseForeignKey
from rapidsms_db_router.models.indexes import PartialIndex
from rapidsms_db_router.models.message import Message
from rapidsms_db_router.models.primary import PrimaryManager, PrimaryModel

#: The width of the column of a transmission's external id.
LONGEST_EXTERNAL_ID = 255

#: What is errored, and will be tried again.
RETRYING = Q(status=Status.ERRORED, next_try__isnull=False)
#: What is errored, and will not be tried again.
GIVEN_UP = Q(status=Status.ERRORED, next_try=None)
#: What is not being sent, and will be.
PENDING = Q(status=Status.QUEUED) | RETRYING
#: Of what is outbound something is still to come.
OPEN = PENDING | Q(status=Status.PROCESSING)
#: What was handed to a gateway once, and is not being sent now: nobody knows how that ended.
UNCERTAIN = PENDING & Q(attempts__gt=0)
#: What a gateway has, or may have.
HANDED_OVER = Q(status__in=(Status.PROCESSING, Status.SENT)) | UNCERTAIN
#: From where a delivery report may move a transmission, by the status to which it moves.
REPORTABLE = {
    Status.DELIVERED: HANDED_OVER | Q(status=Status.ERRORED, attempts__gt=0),
    Status.ERRORED: HANDED_OVER,
    Status.SENT: UNCERTAIN,
}
#: A transmission's number and the name of its backend, also where its connection was deleted.
IDENTITY = Coalesce("connection__identity", "former__identity", models.Value(""))
BACKEND = Coalesce("connection__backend__name", "former__backend", models.Value(""))
#: Of these transmissions the connection is there.
CONNECTED = Q(connection__backend__isnull=False)


class Group(NamedTuple):
    """Transmissions to one backend."""

    backend_id: int
    backend_name: str
    ids: list[int]


class TransmissionQuerySet(models.QuerySet["Transmission"]):
    """Transmissions, and the moves of outbound ones that no sender makes.

    Each move is one compare-and-set: an UPDATE that names the status it leaves. Of two processes
    that try the same move, one changes the rows and the other changes none.
    """

    def discard(self, reason: str, moment: datetime.datetime) -> int:
        """Give up what is not being sent and would be: from Q, and E with a date, to E.

        :param reason: why.
        :param moment: now.
        :returns: how many moved.
        """
        return self.filter(PENDING).update(
            status=Status.ERRORED, error=reason, next_try=None, updated=moment
        )

    def deliver(self, moment: datetime.datetime | models.Expression) -> int:
        """Move what a gateway says is delivered to D, where it stays.

        From P and S; from Q and E, unless no try was made yet: then the report is of another.

        :param moment: when it was delivered.
        :returns: how many moved.
        """
        said = models.Value(moment) if isinstance(moment, datetime.datetime) else moment
        return self.filter(REPORTABLE[Status.DELIVERED]).update(
            status=Status.DELIVERED,
            next_try=None,
            error="",
            sent=Coalesce("sent", said),
            delivered=said,
            updated=now(),
        )

    def fail(self, reason: str | models.Expression, *, part: bool = False) -> int:
        """Move what a gateway says will not be delivered from P or S to E; return how many moved.

        From Q and E too, where a try follows, unless none was made yet: then the report is not of
        this try.

        :param part: whether a part of it failed: then from D too, since another part was delivered.
        """
        leaves = REPORTABLE[Status.ERRORED]
        if part:
            leaves |= Q(status=Status.DELIVERED)
        return self.filter(leaves).update(
            status=Status.ERRORED, error=reason, next_try=None, delivered=None, updated=now()
        )

    def accept(self) -> int:
        """Move what a gateway says it has from Q or E, where another try would follow, to S.

        :returns: how many moved: those whose last try has an unknown outcome.
        """
        moment = now()
        return self.filter(REPORTABLE[Status.SENT]).update(
            status=Status.SENT, sent=moment, next_try=None, error="", updated=moment
        )

    def groups(
        self, size: int | None = None, size_of: Callable[[str], int] = conf.call_size
    ) -> Iterator[Group]:
        """Divide these transmissions by backend, then into groups in the order of their ids.

        :param size: most transmissions in a group; by default each backend's own.
        :param size_of: what that is, by the backend's name.
        :returns: the groups, from one query whatever their number.
        """
        backend = "connection__backend_id", "connection__backend__name"
        rows = (
            self.filter(CONNECTED)
            .order_by(*backend, "pk")
            .values_list(*backend, "pk")
            .iterator(2000)
        )
        for (backend_id, name), group in groupby(rows, key=lambda row: row[:2]):
            ids = (pk for *_, pk in group)
            most = size or size_of(name)
            while batch := list(islice(ids, most)):
                yield Group(backend_id, name, batch)


class Transmission(PrimaryModel):
    """One message from or to one connection."""

    #: The message.
    message = models.ForeignKey(
        Message,
        related_name="transmissions",
        on_delete=models.CASCADE,
        db_index=False,  # the unique constraint's index begins with it
    )
    #: The sender or the recipient; ``None`` if it was deleted, see ``former``. The key stays.
    connection: Any = LooseForeignKey(  # type: ignore[misc]  # of a row that waits it is there
        Connection,
        related_name="transmissions",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
    )
    #: The connection, if it was deleted. No column: both have the same key.
    former: Any = models.ForeignObject(
        FormerConnection,
        related_name="+",
        null=True,
        editable=False,
        serialize=False,
        on_delete=models.DO_NOTHING,
        from_fields=("connection",),  # a tuple, as Django 4.2 compares it with one
        to_fields=("connection",),
    )
    #: How far it has come; see :class:`~rapidsms_db_router.choices.Status`.
    status = models.CharField(max_length=1, choices=Status.choices, default=Status.QUEUED)
    #: When it was stored.
    date = models.DateTimeField(default=now, editable=False)
    #: When its status was last written.
    updated = models.DateTimeField(auto_now=True, null=True)
    #: When the gateway accepted it.
    sent = models.DateTimeField(null=True, blank=True)
    #: When a delivery report said that it had arrived.
    delivered = models.DateTimeField(null=True, blank=True)
    #: Why the last try failed.
    error = models.TextField(blank=True)
    #: When an errored transmission will be tried again; ``None`` if it is given up.
    next_try = models.DateTimeField(null=True, blank=True)
    #: How many tries have counted: calls that failed by the gateway's fault do not.
    attempts = models.PositiveIntegerField(default=0)
    #: The gateway's own id of it, if the backend has returned one.
    external_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001

    objects = PrimaryManager.from_queryset(TransmissionQuerySet)()

    class Meta(PrimaryModel.Meta):
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("message", "connection"), name="one_transmission_a_connection"
            ),
        )
        indexes = (
            # the newest of an id comes first: gateways use their ids again
            PartialIndex(
                fields=("external_id", "id"), null="external_id", name="transmission_by_external_id"
            ),
        )

    def __str__(self) -> str:
        return f"{self.pk}: {self.state}"

    @property
    def identity(self) -> str:
        """The number from or to which it is, also if its connection was deleted."""
        known = self.connection or self.former
        return "" if known is None else known.identity

    @property
    def backend_name(self) -> str:
        """The name of its backend, also if its connection was deleted."""
        if self.connection is not None:
            return str(self.connection.backend.name)
        return "" if self.former is None else self.former.backend

    @property
    def state(self) -> str:
        """The status in words; ``Retrying`` or ``Failed`` for E, by whether another try follows."""
        return in_words(self.status, retrying=self.next_try is not None)
