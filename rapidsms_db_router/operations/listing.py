"""Lists of transmissions, the newest first, that cost the same at any size of the table.

A list is paged by primary key, and nothing is counted. A page looks through a bounded number of
primary keys; if too few of them fit, the next page goes on where it has stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from rapidsms.models import Backend, Connection

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import FormerConnection, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.operations import people
from rapidsms_db_router.operations.words import STATES

#: Rows of a page.
ROWS = 50
#: Primary keys that one page looks through.
WINDOW = 200_000
#: The same where each row's message or connection has to be looked up.
NARROW_WINDOW = 30_000
#: Messages whose texts are searched.
TEXTS = 100_000
#: Messages with one text that are found.
MOST_MESSAGES = 1000
#: Transmissions of one person, or with one text, that are found.
MOST_FOUND = 10_000


@dataclass
class Page:
    """Some transmissions, the newest first."""

    rows: list[Transmission]
    #: Before which primary key the next page begins; ``None``: it is the last.
    before: int | None
    #: Whether the page has stopped before it was full.
    stopped: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a list shows."""

    search: str = ""
    backend: str = ""
    direction: str = ""
    state: str = ""

    def of(self, rows: QuerySet[Transmission]) -> QuerySet[Transmission]:
        """Select what the list shows, but for the search.

        :param rows: among which to select.
        """
        # not joined: the plan of a join may read all messages, or all connections
        if self.backend:
            former = FormerConnection.objects.filter(backend=self.backend)
            connection = Connection.objects.filter(pk=OuterRef("connection")).values("backend")
            backend = Backend.objects.using(alias()).filter(name=self.backend).values("pk")
            of_backend = Q(of_backend=backend[:1])
            if former.exists():
                of_backend |= Q(Exists(former.filter(pk=OuterRef("connection"))))
            rows = rows.annotate(of_backend=Subquery(connection)).filter(of_backend)
        if self.direction:
            message = Message.objects.filter(pk=OuterRef("message")).values("direction")
            rows = rows.annotate(way=Subquery(message)).filter(way=self.direction)
        if self.state:
            rows = rows.filter(STATES[self.state][1])
        return rows


def page(wanted: Wanted, before: int | None = None, rows: int = ROWS) -> Page:
    """Return one page of a list.

    :param before: the primary key before which it begins; ``None``: the newest.
    """
    found = wanted.of(Transmission.objects.order_by("-pk"))
    if wanted.search:
        ids = sorted(searched(wanted.search), reverse=True)
        ids = [pk for pk in ids if before is None or pk < before]
        return _cut(found.filter(among(ids)), rows) if ids else Page([], None)
    if before is None:
        newest = Transmission.objects.aggregate(newest=Max("pk"))["newest"]
        before = (newest or 0) + 1
    lowest = before - (NARROW_WINDOW if wanted.direction or wanted.backend else WINDOW)
    several = _cut(found.filter(pk__lt=before, pk__gte=lowest), rows)
    if several.before is not None:
        return several
    # behind a gap of keys, as between old messages that were imported and newer ones
    older = Transmission.objects.filter(pk__lt=lowest).aggregate(newest=Max("pk"))["newest"]
    return several if older is None else Page(several.rows, older + 1, stopped=True)


def searched(term: str) -> list[int]:
    """Return the transmissions that an operator looks for: primary keys.

    :param term: a number, part of a name, a gateway's id, or part of a text.
    """
    is_number = people.is_number(term)
    if is_number and (connections := people.with_number(term)):
        return newest(Transmission.objects.filter(connection__in=connections), MOST_FOUND)
    with_id = Transmission.objects.filter(external_id=term).values_list("pk", flat=True)
    if found := list(with_id[:ROWS]):
        return found
    if not is_number and (connections := people.with_name(term)):
        return newest(Transmission.objects.filter(connection__in=connections), MOST_FOUND)
    recent = Message.objects.order_by("-pk")
    since = recent.values_list("pk", flat=True)[TEXTS:].first() or 0
    texts = recent.filter(pk__gt=since, text__icontains=term)
    messages = list(texts.values_list("pk", flat=True)[:MOST_MESSAGES])
    if not messages:
        return []
    of_texts = Transmission.objects.filter(among(messages, "message"))
    return list(of_texts.values_list("pk", flat=True)[:MOST_FOUND])


def with_others(rows: QuerySet[Transmission]) -> QuerySet[Transmission]:
    """Add to transmissions whether the message of each is for other people, too.

    :param rows: those of one page: each is a look into the index of messages.
    """
    others = Transmission.objects.filter(message=OuterRef("message")).exclude(pk=OuterRef("pk"))
    return rows.annotate(has_others=Exists(others))


def recipients(message: Message, after: int = 0, rows: int = ROWS) -> list[Transmission]:
    """Return the transmissions of a message, by their connections.

    :param after: the primary key of a connection: the first one is behind it.
    :param rows: how many of them.
    """
    # by the index of message and connection; not joined, or MariaDB reads them all and sorts them
    found = Transmission.objects.filter(message=message, connection__gt=after)
    ids = list(found.order_by("connection_id").values_list("pk", flat=True)[:rows])
    return list(_with_related(ids).order_by("connection_id"))


def newest(rows: QuerySet[Transmission], most: int) -> list[int]:
    """Return the newest of the transmissions of some people: primary keys, the newest first.

    :param rows: those of a bounded number of connections.
    """
    # the bare key would have the database walk along it, through the rows of everybody
    found = rows.order_by((F("pk") + 0).desc()).values_list("pk", flat=True)
    return list(found[:most])


def _cut(found: QuerySet[Transmission], rows: int) -> Page:
    """Return the first of some rows, with all that is shown of them."""
    ids = list(found.values_list("pk", flat=True)[: rows + 1])
    shown = _with_related(ids[:rows]).select_related("message").order_by("-pk")
    return Page(list(with_others(shown)), ids[rows - 1] if len(ids) > rows else None)


def _with_related(ids: list[int]) -> QuerySet[Transmission]:
    """Select transmissions with whom they are from or to, whether or not that was deleted."""
    rows = Transmission.objects.filter(pk__in=ids)
    return rows.select_related("connection__backend", "connection__contact", "former")
