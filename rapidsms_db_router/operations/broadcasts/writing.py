"""Writing a broadcast: a draft is looked at, then sent once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from rapidsms_db_router.acting import acted
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import segments
from rapidsms_db_router.limits.operators import state_of
from rapidsms_db_router.limits.overrides import limits_of
from rapidsms_db_router.models import Message
from rapidsms_db_router.operations.models import Broadcast, Draft

#: What stands between the digits of a number as people write it.
BETWEEN = re.compile(r"[\s().\-/]")
NUMBER = re.compile(r"\+?\d{3,15}")
#: Numbers that one statement names.
CHUNK = 1000


@dataclass(frozen=True)
class Preview:
    """What an author has to know before a broadcast is sent."""

    #: How many people it is for.
    people: int
    #: SMS segments that each of them gets, and in which alphabet.
    segments: int
    alphabet: str
    #: How many seconds it takes at the backend's rate; ``None``: it has none.
    seconds: float | None
    #: The first of those whom it is for.
    first: list[str]


def numbers(lines: Iterable[str]) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the numbers of a CSV file, each once, and the lines that have none.

    :param lines: the first cell of each is a number; a first line of words is a heading.
    :returns: the numbers; and of each wrong line its place, from 1 on, and its first cell.
    """
    found: dict[str, None] = {}
    wrong = []
    for place, line in enumerate(lines, start=1):
        cell = re.split(r"[,;\t]", line.strip().strip("\ufeff"), maxsplit=1)[0].strip().strip("\"'")
        number = BETWEEN.sub("", cell)
        if NUMBER.fullmatch(number):
            found[number] = None
        elif cell and not (place == 1 and not any(map(str.isdigit, cell))):
            wrong.append((place, cell))
    return list(found), wrong


def preview(draft: Draft) -> Preview:
    """Return what a draft would do."""
    people: int
    if draft.numbers is None:
        rows = Connection.objects.using(alias()).filter(backend=draft.backend)
        people, first = (
            rows.count(),
            list(rows.order_by("pk").values_list("identity", flat=True)[:3]),
        )
    else:
        people, first = len(draft.numbers), draft.numbers[:3]
    parts = segments.count(draft.text)
    rate = limits_of(state_of(draft.backend), draft.backend.name).rate
    coding = segments.coding_of(draft.text)
    return Preview(
        people=people,
        segments=parts,
        alphabet="GSM" if coding is segments.Coding.GSM else "Unicode",
        seconds=None if rate is None else people * parts / rate,
        first=first,
    )


def write(by: str, **columns: Any) -> Draft:
    """Store a draft.

    :param by: its author.
    """
    with transaction.atomic(using=alias()):
        draft = Draft.objects.create(**columns, author=by)
        acted("write", by, draft, after={"backend": draft.backend.name})
    return draft


def discard(pk: int, by: str) -> None:
    """Delete a draft.

    :param by: who does so.
    """
    with transaction.atomic(using=alias()):
        draft = Draft.objects.filter(pk=pk).first()
        if draft is not None and Draft.objects.filter(pk=pk).delete()[0]:
            draft.pk = pk
            acted("discard_draft", by, draft)


def send_draft(pk: int, by: str) -> Message | None:
    """Send a draft; of two requests at the same time one finds nothing to be sent.

    :param by: who sends it.
    :returns: the message; ``None`` if there is no such draft any more.
    """
    with transaction.atomic(using=alias()):
        draft = Draft.objects.select_for_update().filter(pk=pk).first()
        if draft is None or not Draft.objects.filter(pk=pk).delete()[0]:
            return None
        sent = send(
            draft.text,
            _recipients(draft),
            not_before=draft.not_before,
            expires_at=draft.expires_at,
        )
        message: Message = sent.database_message
        Broadcast.objects.create(
            message=message,
            recipients=(count := message.transmissions.count()),
            author=draft.author,
        )
        dates = {"not_before": draft.not_before, "expires_at": draft.expires_at}
        after = {"draft": pk, **{name: date for name, date in dates.items() if date}}
        acted("broadcast", by, message, count=count, after=after)
    return message


def send_test(draft: Draft, number: str, by: str) -> None:
    """Send the text of a draft to one number, such as the author's.

    :param by: who sends it.
    """
    with transaction.atomic(using=alias()):
        send(draft.text, list(_connections(draft.backend, [number])))
        acted("test", by, draft, count=1)


def _recipients(draft: Draft) -> QuerySet[Connection] | Iterator[Connection]:
    if draft.numbers is None:
        everybody: QuerySet[Connection] = Connection.objects.using(alias()).filter(
            backend=draft.backend
        )
        return everybody
    return _connections(draft.backend, draft.numbers)


def _connections(backend: Backend, wanted: Iterable[str]) -> Iterator[Connection]:
    """Yield the connections of numbers; make those that are not there."""
    waiting = iter(wanted)
    while chunk := list(islice(waiting, CHUNK)):
        rows = Connection.objects.using(alias()).filter(backend=backend, identity__in=chunk)
        known = set(rows.values_list("identity", flat=True))
        new = [Connection(backend=backend, identity=each) for each in chunk if each not in known]
        Connection.objects.using(alias()).bulk_create(new, ignore_conflicts=True)
        yield from rows.select_related("backend")
