"""Forgetting one person: what is sent to them is cancelled, then all that is of them is erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rapidsms.models import Connection, Contact

from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import EarlyReport, FormerConnection, Message, Part, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import PENDING
from rapidsms_db_router.operations.models import Draft
from rapidsms_db_router.operations.retention import archives, erasing
from rapidsms_db_router.operations.retention.numbers import forms, is_one_of
from rapidsms_db_router.outbound import discarding

#: The error of what was cancelled for it.
FORGOTTEN = "person forgotten"


class Person:
    """One person, by all their connections, also deleted ones.

    :param said: the primary key of a contact, or a number in any notation.
    :raises LookupError: if nobody is known by it.
    """

    def __init__(self, said: str) -> None:
        connections = Connection.objects.using(alias())
        found = connections.filter(identity__in=forms(said))
        contacts = set(found.exclude(contact=None).values_list("contact", flat=True))
        if not found and said.isascii() and said.isdigit() and len(said) < 10:
            contacts = set(
                Contact.objects.using(alias()).filter(pk=said).values_list("pk", flat=True)
            )
        self.contacts: QuerySet[Contact] = Contact.objects.using(alias()).filter(pk__in=contacts)
        of_contacts = connections.filter(contact__in=contacts)
        self.connections = {row.pk: row for row in [*found, *of_contacts]}
        identities = {row.identity for row in self.connections.values()} | {said}
        self.forms = set().union(*map(forms, identities))
        former = FormerConnection.objects.filter(identity__in=self.forms)
        self.former: list[int] = list(former.values_list("pk", flat=True))
        if not (self.connections or self.former or contacts):
            raise LookupError("Nobody is known by that.")

    @property
    def rows(self) -> QuerySet[Transmission]:
        """Their transmissions."""
        return Transmission.objects.filter(connection__in=[*self.connections, *self.former])


def forget(person: Person, *, dry_run: bool = False) -> Counter[str]:
    """Erase a person everywhere.

    What is sent to them is cancelled first. A message that went to others, too, keeps its text.

    :param dry_run: whether all is only counted.
    :returns: how many rows of each kind.
    """
    done: Counter[str] = Counter()
    connected = list(person.connections)
    done["transmissions in flight"] = person.rows.filter(status=Status.PROCESSING).count()
    if dry_run:
        waiting = person.rows.filter(PENDING, message__direction=Direction.OUTGOING)
        done["transmissions cancelled"] = waiting.count()
    else:
        done["transmissions cancelled"] = discarding.discard_of(connected, FORGOTTEN)
    for ids in _chunks(person.rows):
        _forget_rows(ids, done, dry_run)
    reports = EarlyReport.objects.filter(identity__in=person.forms)
    done["early reports"] = reports.count() if dry_run else reports.delete()[0]
    for draft in Draft.objects.filter(numbers__isnull=False):
        kept = [each for each in draft.numbers or [] if not is_one_of(str(each), person.forms)]
        if len(kept) < len(draft.numbers or []):
            done["drafts"] += 1
            if not dry_run:
                Draft.objects.filter(pk=draft.pk).update(numbers=kept)
    _forget_archived(person, done, dry_run)
    done["connections"] = len(person.connections) + len(person.former)
    done["contacts"] = person.contacts.count()
    if not dry_run:
        with transaction.atomic(using=alias()):
            Connection.objects.using(alias()).filter(pk__in=connected).delete()
            person.contacts.delete()
            gone = FormerConnection.objects.filter(pk__in=[*connected, *person.former])
            gone.update(identity="")
    return done


def _chunks(rows: QuerySet[Transmission]) -> Iterator[list[int]]:
    ids = list(rows.values_list("pk", flat=True))
    for start in range(0, len(ids), erasing.CHUNK):
        yield ids[start : start + erasing.CHUNK]


def _forget_rows(ids: list[int], done: Counter[str], dry_run: bool) -> None:
    rows = Transmission.objects.filter(among(ids))
    messages = set(rows.values_list("message", flat=True))
    others = Transmission.objects.filter(message__in=messages).exclude(among(ids))
    shared = {pk for pk in messages if others.filter(message=pk).exists()}
    inbound = Message.objects.filter(pk__in=shared, direction=Direction.INCOMING)
    texts = messages - shared | set(inbound.values_list("pk", flat=True))
    done["texts"] += Message.objects.filter(pk__in=texts, blanked_at=None).count()
    done["transmissions"] += len(ids)
    parts = Part.objects.filter(among(ids, "transmission"))
    done["parts"] += parts.count()
    if dry_run:
        return
    erasing.blank_errors(ids)
    parts.delete()
    rows.update(external_id=None)
    if texts:
        erasing.blank(texts, whatever=True)
        Message.objects.filter(pk__in=texts).update(external_id="")


def _forget_archived(person: Person, done: Counter[str], dry_run: bool) -> None:
    """Write archives anew without the lines of a person."""
    for name in archives.names():
        mine = [line for line in archives.read(name) if _is_of(line, person)]
        if not mine:
            continue
        done["archived lines"] += len(mine)
        done["archives"] += 1
        if not dry_run:
            archives.check(name)
            rest = (line for line in archives.read(name) if not _is_of(line, person))
            archives.store(name, rest)
            archives.remove(name)


def _is_of(line: dict[str, Any], person: Person) -> bool:
    return is_one_of(str(line.get("number") or ""), person.forms)
