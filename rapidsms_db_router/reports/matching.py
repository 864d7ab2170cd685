"""Which transmission a delivery report is about: one, or none.

Gateways write the number of a person in several ways: ``+256772000001``, ``256772000001``,
``00256772000001``, the national ``0772000001``, and with a blank where an ``+`` was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db.models import QuerySet
from rapidsms.models import Backend, Connection

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.identities import digits
from rapidsms_db_router.models import Part, Transmission
from rapidsms_db_router.models.transmission import CONNECTED
from rapidsms_db_router.reports.report import Report

#: Two numbers that end alike are one person's if they share this many digits.
SHORTEST_NATIONAL = 6
#: Transmissions of one id that are looked at: the newest.
MOST_OF_AN_ID = 50
#: Recipients of a message whose numbers show how the gateway's may be written.
MOST_EXAMPLES = 200


class Found(NamedTuple):
    """What a report is about."""

    row: Transmission
    #: The id of the part, if the backend has returned several for this recipient.
    part: str = ""


def find(report: Report) -> Found | None:
    """Return what a report is about, if that can be told.

    What the report names has to fit: the message, the backend, and the id or the person. Of an id
    that several transmissions have, the one whose number fits; without a number the newest.
    """
    rows = outbound()
    if report.backend_name:
        rows = rows.filter(connection__backend__name=report.backend_name)
    if report.message_id is not None:
        rows = rows.filter(message=report.message_id)
    if report.external_id:
        found = choose(_of_id(rows, report.external_id), report.identity)
        if found is not None:
            return found
    if report.message_id is None:
        return None
    if report.identity:
        return choose(_of_person(rows, report), report.identity)
    two = rows[:2]  # of which nobody can tell
    return Found(two[0]) if len(two) == 1 else None


def find_together(reports: Sequence[Report]) -> dict[int, Found]:
    """Return what those reports are about whose id one transmission has: by place, two queries.

    Of the others :func:`find` may tell more.
    """
    ids = {report.external_id for report in reports if report.external_id}
    named = Transmission.objects.filter(external_id__in=ids).values_list("external_id", "pk")
    known = list(named[: 2 * len(ids)])
    if len(known) == 2 * len(ids):  # there may be more, also of an id that is here once
        return {}
    often = Counter(external_id for external_id, _ in known)
    alone = [pk for external_id, pk in known if often[external_id] == 1]
    rows = {row.external_id: row for row in outbound().filter(pk__in=alone)}
    found = {}
    for place, report in enumerate(reports):
        # by the exact id: MariaDB compares without regard to case
        row = rows.get(report.external_id)
        if row is None or report.message_id not in (None, row.message_id):
            continue
        if report.backend_name not in ("", row.connection.backend.name):
            continue
        if chosen := choose([Found(row)], report.identity):
            found[place] = chosen
    return found


def outbound() -> QuerySet[Transmission]:
    """Return outbound transmissions, with all that a report needs to know of them."""
    rows = Transmission.objects.select_related("message", "connection__backend")
    return rows.filter(CONNECTED, message__direction=Direction.OUTGOING)


def choose(candidates: Iterable[Found], identity: str) -> Found | None:
    """Return which of those that an id fits is meant.

    :param candidates: the newest first.
    :param identity: the person, as the gateway writes it; empty if it does not say.
    :returns: the newest whose identity fits best; ``None`` if two of one message do.
    """
    if not identity:
        return next(iter(candidates), None)
    fits: list[list[Found]] = [[], [], []]
    for found in candidates:
        distance = _distance(found.row.connection.identity, identity)
        if distance is not None:
            fits[distance].append(found)
    best = next(filter(None, fits), [])
    if len({found.row.pk for found in best if found.row.message_id == best[0].row.message_id}) > 1:
        return None
    return best[0] if best else None


def _of_id(rows: QuerySet[Transmission], external_id: str) -> list[Found]:
    """Return what an id of a gateway names, the newest first."""
    # By the id alone: a plan that begins with the backend reads all that was sent through it.
    named = Transmission.objects.filter(external_id=external_id).order_by("-pk")
    ids = list(named.values_list("pk", flat=True)[:MOST_OF_AN_ID])
    newest = rows.filter(pk__in=ids).order_by("-pk") if ids else []
    # MariaDB compares without regard to case
    found = [Found(row) for row in newest if row.external_id == external_id]
    if not found:
        parts = Part.objects.filter(external_id=external_id).order_by("-pk")[:MOST_OF_AN_ID]
        ids = [part.transmission_id for part in parts if part.external_id == external_id]
        if ids:
            of_parts = rows.filter(pk__in=ids).order_by("-pk")
            found = [Found(row, external_id) for row in of_parts]
    return found


def _of_person(rows: QuerySet[Transmission], report: Report) -> list[Found]:
    """Return the transmissions of a message to those whose identity fits a report's.

    By the index of connections: a broadcast has too many transmissions to look among them.
    """
    backends = Backend.objects.using(alias())
    if report.backend_name:
        backends = backends.filter(name=report.backend_name)
    people = Connection.objects.using(alias())
    people = people.filter(backend__in=list(backends.values_list("pk", flat=True)))

    def of(identities: Iterable[str]) -> list[Found]:
        named = list(people.filter(identity__in=set(identities)).values_list("pk", flat=True))
        return [Found(row) for row in rows.filter(connection__in=named)] if named else []

    number = digits(report.identity)
    if not number:
        return of([report.identity])
    usual = [form + number for form in ("", "+", "00", "0")]
    found = of([report.identity, *usual])
    if not found:
        first = rows.values_list("connection__identity", flat=True)[:MOST_EXAMPLES]
        found = of(_written_like(first, report.identity))
    return found


def _written_like(examples: Iterable[str], said: str) -> set[str]:
    """Return what a number would be if it were written as these are, and those that fit it."""
    forms, number = set(), digits(said)
    for example in examples:
        known = digits(example)
        if _distance(example, said) is not None:
            forms.add(example)
        elif known and example.endswith(known):
            before, missing = example[: -len(known)], max(len(known) - len(number), 0)
            forms.add(before + known[:missing] + number[-len(known) :])
    return forms


def _distance(known: str, said: str) -> int | None:
    """Return how far apart two ways to write an identity are: 0, 1 or 2; ``None``: too far."""
    if known == said:
        return 0
    one, other = digits(known), digits(said)
    if not (one and other):
        return None
    if one == other:
        return 1
    shorter, longer = sorted((one, other), key=len)
    return 2 if len(shorter) >= SHORTEST_NATIONAL and longer.endswith(shorter) else None
