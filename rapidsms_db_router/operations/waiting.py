"""What waits to be sent, and why; read from the tables of unfinished work alone."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Min, Q, QuerySet, Sum, Value, When
from django.db.models import CharField as Text
from django.utils.translation import gettext as _
from rapidsms.models import Backend

from rapidsms_db_router import conf
from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.limits import circuit, operators
from rapidsms_db_router.limits.circuit import Circuit
from rapidsms_db_router.limits.overrides import limits_of
from rapidsms_db_router.models import Batch, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.operations.figures import Length

#: What waits for longer than this is told apart before a backend is resumed.
OLD = datetime.timedelta(days=1)
#: Transmissions of claimed batches that are looked at for calls that take too long.
MOST_CLAIMED = 5000
#: A call takes too long if it has not ended so many seconds after its deadline.
MARGIN = 5.0
#: Why something waits: the whole of what waits is divided into these.
#:
#: ========= ============================================================
#: scheduled its message has a date that is still to come
#: retrying  a try has failed, and another one follows
#: paused    operators have paused its message
#: held      its backend is paused, out of order, at its rate, or busy
#: ========= ============================================================
WHYS = ("scheduled", "retrying", "paused", "held")


@dataclass(frozen=True)
class Group:
    """What waits for one backend for one reason."""

    backend: Backend
    #: One of :data:`WHYS`.
    why: str
    #: The reason in words.
    words: str
    #: How many transmissions.
    people: int
    #: How many of them are to be sent for more than a day.
    old: int
    #: Since when the oldest is to be sent.
    since: datetime.datetime
    #: From when on the first may be sent.
    next_at: datetime.datetime


def condition(why: str, moment: datetime.datetime) -> Q:
    """Return what a batch must be like to wait for a reason.

    :param why: one of :data:`WHYS`.
    """
    free = Q(claim_token=None)
    if why == "paused":
        return free & Q(paused=True)
    if why == "retrying":
        return free & Q(paused=False, errored=True)
    free &= Q(paused=False, errored=False)
    return free & (Q(due_at__gt=moment) if why == "scheduled" else Q(due_at__lte=moment))


def groups(backend: Backend | None = None) -> list[Group]:
    """Return what waits, by backend and reason; one query, or two.

    :param backend: of this backend alone.
    """
    moment = now()
    cases = [When(condition(why, moment), then=Value(why)) for why in WHYS[:-1]]
    rows = Batch.objects.filter(claim_token=None)
    if backend is not None:
        rows = rows.filter(backend=backend)
    why: Any = Case(*cases, default=Value("held"), output_field=Text())
    found = rows.annotate(why=why).order_by().values("backend", "why").annotate(
        people=Sum(Length("transmission_ids")),
        old=Sum(Length("transmission_ids"), filter=Q(due_at__lt=moment - OLD)),
        since=Min("due_at"),
        next_at=Min("ready_at"),
    )  # fmt: skip
    counted = list(found)
    if backend is None:
        backends = Backend.objects.using(alias()).select_related("router_state")
        by_key = backends.in_bulk({row["backend"] for row in counted})
    else:
        by_key = {backend.pk: backend}
    several = [
        Group(
            backend=by_key[row["backend"]],
            why=row["why"],
            words=_words(by_key[row["backend"]], row["why"], moment),
            people=row["people"],
            old=row["old"] or 0,
            since=row["since"],
            next_at=row["next_at"],
        )
        for row in counted
    ]
    return sorted(several, key=lambda group: (group.backend.name, WHYS.index(group.why)))


def batches(backend: Backend, why: str, age: datetime.timedelta | None = None) -> QuerySet[Batch]:
    """Return the batches of a group.

    :param age: only what is to be sent for longer.
    """
    moment = now()
    rows = Batch.objects.filter(condition(why, moment), backend=backend)
    return rows if age is None else rows.filter(due_at__lt=moment - age)


def _words(backend: Backend, why: str, moment: datetime.datetime) -> str:
    if why == "scheduled":
        return _("scheduled for later")
    if why == "retrying":
        return _("will be tried again")
    if why == "paused":
        return _("paused broadcasts")
    state = operators.state_of(backend)
    if state is not None and state.is_paused(moment):
        return _("held by a pause of the backend")
    if circuit.state_of(state, moment) is not Circuit.CLOSED:
        return _("held by an open circuit")
    if limits_of(state, backend.name).rate is not None:
        return _("held by the rate")
    return _("ready to be sent")


@dataclass(frozen=True)
class Late:
    """Calls of one backend that have not ended though their deadline has passed."""

    backend: Backend
    people: int
    #: When the first of them began.
    since: datetime.datetime


def late() -> list[Late]:
    """Return what is in flight for too long, by backend."""
    backends: dict[int, Backend] = {}
    of: dict[int, int] = {}
    for batch in Batch.objects.claimed().select_related("backend").order_by("pk")[:MOST_CLAIMED]:
        if len(of) >= MOST_CLAIMED:
            break
        backends[batch.backend_id] = batch.backend
        of |= dict.fromkeys(batch.transmission_ids, batch.backend_id)
    if not of:
        return []
    moment = now()
    rows = Transmission.objects.filter(among(of), status=Status.PROCESSING)
    found: dict[int, list[datetime.datetime]] = {}
    for pk, began in rows.values_list("pk", "updated"):
        seconds = conf.timeout(backends[of[pk]].name) + MARGIN
        if began is not None and began < moment - datetime.timedelta(seconds=seconds):
            found.setdefault(of[pk], []).append(began)
    return [Late(backends[pk], len(dates), min(dates)) for pk, dates in found.items()]
