"""What an operator has to know first: each incident in one sentence."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import IntEnum

from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import RecoverySchedule
from rapidsms_db_router.operations.figures import BackendFigures
from rapidsms_db_router.recovery.backlog import LONGEST_WAIT

#: Recovery has its turn once in each interval; after this many intervals no worker is there.
TURNS_MISSED = 4


class Severity(IntEnum):
    """How bad it is; the exit status that monitoring plug-ins have for it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Incident:
    """Something that needs a person."""

    #: Stays the same for as long as the incident lasts.
    code: str
    sentence: str
    severity: Severity
    #: The backend's name, if it is about one.
    backend: str = ""


def worst(found: list[Incident]) -> Severity:
    """Return how bad the worst incident is."""
    return max((incident.severity for incident in found), default=Severity.OK)


def incidents(found: list[BackendFigures]) -> list[Incident]:
    """Return the incidents of now, the worst first.

    :param found: what :func:`.figures.backends` returned.
    """
    said = []
    if (since := _no_worker_since()) is not None:
        said.append(
            Incident(
                "no_worker",
                _("No worker has been seen for %(time)s: nothing is processed or sent.")
                % {"time": timesince(since, now())},
                Severity.CRITICAL,
            )
        )
    for each in found:
        name = each.backend.name
        if each.is_out_of_order:
            words = {"backend": name, "state": each.state, "number": each.waiting.all}
            sentence = _("%(backend)s is %(state)s. %(number)s SMS wait for it.") % words
            said.append(Incident("out_of_order", sentence, Severity.CRITICAL, name))
        elif each.waiting.since is not None and _is_behind(each, each.waiting.since):
            time = timesince(each.waiting.since, now())
            words = {"backend": name, "number": each.waiting.ready, "time": time}
            sentence = _("%(backend)s is behind: %(number)s SMS wait, the oldest for %(time)s.")
            said.append(Incident("behind", sentence % words, Severity.WARNING, name))
    return said


def _is_behind(each: BackendFigures, since: datetime.datetime) -> bool:
    return not each.is_paused and now() - since > LONGEST_WAIT


def _no_worker_since() -> datetime.datetime | None:
    """Return when a worker was seen last, if that is long ago."""
    schedule = RecoverySchedule.objects.first()
    if schedule is None:
        return None
    interval = datetime.timedelta(seconds=conf.recovery_interval())
    missed = now() - schedule.next_look
    return schedule.next_look - interval if missed > interval * (TURNS_MISSED - 1) else None
