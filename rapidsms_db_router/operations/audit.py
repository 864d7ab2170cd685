"""What people have done, kept: who, when, on what, how many, before and after, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery
from rapidsms.models import Backend, Connection

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import BulkAction, Gateway, Message
from rapidsms_db_router.operations.models import AuditEntry, AuditSubject, Draft
from rapidsms_db_router.operations.reasons import reason_of
from rapidsms_db_router.operations.words import ACTIONS

Kind = AuditSubject.Kind
#: By kind of subject: its model, as the admin knows it.
MODELS: dict[str, type[models.Model]] = {
    Kind.BACKEND: Gateway,
    Kind.MESSAGE: Message,
    Kind.CONNECTION: Connection,
    Kind.BULK_ACTION: BulkAction,
    Kind.DRAFT: Draft,
}
#: Entries that the page of a subject shows.
SHOWN = 20
#: The columns' widths.
LONGEST_BY, LONGEST_REASON = 150, 200


def at_action(**told: Any) -> None:
    """Keep what a person has done; a receiver of the signal ``operator_acted``."""
    names = ("kind", "by", "subject", "count", "before", "after", "reason")
    # a savepoint: an error here leaves the action as it is
    with transaction.atomic(using=alias()):
        keep(**{name: told[name] for name in names})


def at_chunk(action: BulkAction, **_: Any) -> None:
    """Keep what a further chunk is about; a receiver of the signal ``bulk_action_goes_on``."""
    with transaction.atomic(using=alias()):
        mine = AuditSubject.objects.filter(kind=Kind.BULK_ACTION, row=action.pk).order_by("entry")
        entry = mine.values_list("entry", flat=True).first()
        if entry is None:  # it was pruned
            return
        found = _of_bulk_action(action)
        known = AuditSubject.objects.filter(entry=entry, kind=Kind.BACKEND)
        backends = set(known.values_list("row", flat=True))
        kept = [
            AuditSubject(entry_id=entry, kind=kind, row=pk, name=name)
            for kind, pk, name in found
            if kind == Kind.BACKEND and pk not in backends
        ]
        # one row, and not one for each message
        if ids := [pk for kind, pk, _name in found if kind == Kind.MESSAGE]:
            last = ids[-1]
            kept.append(
                AuditSubject(
                    entry_id=entry, kind=Kind.MESSAGES, row=ids[0], last_row=last, rows=ids
                )
            )
        AuditSubject.objects.bulk_create(kept)


def keep(
    *,
    kind: str,
    by: str,
    subject: models.Model | None,
    count: int | None,
    before: dict[str, Any],
    after: dict[str, Any],
    reason: str,
) -> AuditEntry:
    """Store an entry with its subjects; for a user, in the history of Django's admin too."""
    entry = AuditEntry.objects.create(
        kind=kind,
        by=by[:LONGEST_BY],
        count=count,
        before=before,
        after=after,
        reason=reason[:LONGEST_REASON],
    )
    subjects = [
        AuditSubject(entry=entry, kind=each, row=pk, name=name)
        for each, pk, name in _subjects(subject)
    ]
    AuditSubject.objects.bulk_create(subjects)
    if apps.is_installed("django.contrib.admin"):
        _log(entry, subjects)
    return entry


def entries(before: int | None, most: int) -> list[AuditEntry]:
    """Return what was done, the newest first.

    :param before: the primary key before which to begin; ``None``: with the newest.
    """
    rows = AuditEntry.objects.order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return list(_with_links(rows)[:most])


def of(subjects: Mapping[str, Iterable[int]]) -> list[AuditEntry]:
    """Return what was done to some rows, the newest first.

    :param subjects: by :class:`AuditSubject.Kind` their primary keys.
    """
    named = (Q(kind=kind, row__in=list(ids)) for kind, ids in subjects.items())
    theirs = AuditSubject.objects.filter(reduce(or_, named, Q()))
    newest = theirs.order_by("-entry").values_list("entry", flat=True).distinct()[:SHOWN]
    found = {*newest, *_by_chunks(subjects.get(Kind.MESSAGE, ()))}
    rows = AuditEntry.objects.filter(pk__in=sorted(found)[-SHOWN:])
    return list(_with_links(rows).order_by("-pk"))


def _by_chunks(ids: Iterable[int]) -> set[int]:
    """Return the newest entries with chunks that have one of some messages."""
    wanted = set(ids)
    if not wanted:
        return set()
    around = reduce(or_, (Q(row__lte=pk, last_row__gte=pk) for pk in wanted))
    chunks = AuditSubject.objects.filter(around, kind=Kind.MESSAGES).order_by("-entry")
    found: set[int] = set()
    for entry, rows in chunks.values_list("entry", "rows").iterator(100):
        if len(found) >= SHOWN:
            break
        if not wanted.isdisjoint(rows or ()):
            found.add(entry)
    return found


def _with_links(rows: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """Read what entries are linked to: of a bulk action itself, not its hundreds of messages."""
    linked = AuditSubject.objects.exclude(kind=Kind.MESSAGES).exclude(
        kind=Kind.MESSAGE, entry__kind__in=[*BulkAction.Kind.values, "stop"]
    )
    found = rows.prefetch_related(Prefetch("subjects", linked.order_by("pk"), "linked"))
    return found


def _subjects(subject: models.Model | None) -> list[tuple[str, int, str]]:
    """Return of each thing that was acted on its kind, its primary key and its name."""
    if subject is None:
        return []
    if isinstance(subject, Backend):
        return [(Kind.BACKEND, subject.pk, subject.name)]
    if isinstance(subject, BulkAction):
        return [(Kind.BULK_ACTION, subject.pk, ""), *_of_bulk_action(subject)]
    kinds = {model: kind for kind, model in MODELS.items()}
    kind = kinds.get(type(subject))
    return [] if kind is None else [(kind, subject.pk, "")]


def _of_bulk_action(action: BulkAction) -> list[tuple[str, int, str]]:
    """Return the messages and backends of the next chunk of a bulk action."""
    rows = bulk_actions.next_transmissions(action)
    # not joined: the plan of a join may read most connections for one chunk
    backend = Connection.objects.filter(pk=OuterRef("connection")).values("backend")
    found = list(rows.order_by().values_list("message", Subquery(backend)).distinct())
    messages = sorted({message for message, _ in found})
    keys = {pk for _, pk in found if pk is not None}
    names = dict(Backend.objects.using(alias()).filter(pk__in=keys).values_list("pk", "name"))
    return [
        *((Kind.BACKEND, pk, name) for pk, name in sorted(names.items())),
        *((Kind.MESSAGE, pk, "") for pk in messages),
    ]


def _log(entry: AuditEntry, subjects: list[AuditSubject]) -> None:
    """Have the admin's history of each subject show the entry, if a user has acted."""
    from django.contrib.admin.models import CHANGE, LogEntry

    users = get_user_model()
    user = users._default_manager.filter(**{users.USERNAME_FIELD: entry.by}).first()
    if user is None:
        return
    said = str(ACTIONS.get(entry.kind, entry.kind))
    if entry.reason:
        # whoever sees the history need not be one of those who see numbers
        said = f"{said}: {reason_of(entry.reason)}"
    types = {
        kind: ContentType.objects.get_for_model(model, for_concrete_model=False).pk
        for kind, model in MODELS.items()
    }
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=user.pk,
            content_type_id=types[each.kind],
            object_id=str(each.row),
            object_repr=each.name or f"{Kind(each.kind).label} {each.row}",
            action_flag=CHANGE,
            change_message=said,
        )
        for each in subjects
    )
