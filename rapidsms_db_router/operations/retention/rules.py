"""Which messages may lose their texts, and which may go."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass, field

from django.db.models import Count, Max, Q

from rapidsms_db_router.choices import Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.keys import among
from rapidsms_db_router.models.transmission import GIVEN_UP, OPEN
from rapidsms_db_router.operations.models import Hour
from rapidsms_db_router.operations.tallies.hours import OPEN_FOR

#: The keys of ``DB_ROUTER_RETENTION`` that are days: texts are erased, and rows are deleted that
#: have ended well, or of which some were given up.
PERIODS = TEXT, DELIVERED, FAILED = "text", "delivered", "failed"
#: The key that is days after which audit entries and ended bulk actions are deleted.
AUDIT = "audit"
#: No period is shorter: until then delivery reports are awaited.
FEWEST_DAYS = OPEN_FOR.days
#: The statuses of messages that have ended.
ENDED = (Status.RECEIVED, Status.SENT, Status.DELIVERED, Status.ERRORED)
#: A message is blanked or deleted under these conditions; who sends it again changes them first.
IDLE = Q(status__in=ENDED, recover_at=None, claim_token=None)


@dataclass(frozen=True)
class Rules:
    """Before when each period has to have begun; ``None``: it never ends."""

    text: datetime.datetime | None = None
    delivered: datetime.datetime | None = None
    failed: datetime.datetime | None = None
    #: Transmissions of hours whose tallies are not final. They stay.
    untallied: Q = field(default_factory=Q)

    @classmethod
    def of(cls, days: dict[str, int]) -> Rules:
        """Return the rules that count from now.

        :param days: by period; none for a period that never ends.
        """
        moment = now()
        dates = {
            period: moment - datetime.timedelta(days=max(days[period], FEWEST_DAYS))
            for period in PERIODS
            if period in days
        }
        return cls(**dates, untallied=_untallied())

    def before(self, period: str) -> datetime.datetime | None:
        """Return before when a period has to have begun to be over."""
        date: datetime.datetime | None = getattr(self, period)
        return date

    @property
    def latest(self) -> datetime.datetime | None:
        """The latest of these dates: of younger messages nothing can be done."""
        dates = [date for date in map(self.before, PERIODS) if date is not None]
        return max(dates, default=None)


@dataclass
class Verdict:
    """What may be done to some messages."""

    #: Those that may be deleted, each with how many transmissions it has.
    delete: dict[int, int] = field(default_factory=dict)
    #: Those that may be blanked, and not be deleted.
    blank: list[int] = field(default_factory=list)
    #: How many may not be deleted only because their hour is not tallied to the end.
    untallied: int = 0


def judge(ids: Collection[int], rules: Rules) -> Verdict:
    """Return what may be done to some messages; three statements.

    :param ids: primary keys, at least one.
    """
    verdict = Verdict()
    idle = Message.objects.filter(IDLE, among(ids))
    columns = "pk", "status", "date", "updated", "blanked_at"
    messages = {pk: values for pk, *values in idle.values_list(*columns)}
    if not messages:
        return verdict
    rows = Transmission.objects.filter(among(messages, "message")).order_by().values_list("message")
    counted = rows.annotate(
        number=Count("pk"),
        open=Count("pk", filter=OPEN),
        given_up=Count("pk", filter=GIVEN_UP),
        last=Max("updated"),
        untallied=Count("pk", filter=rules.untallied),
    )
    counts = {pk: numbers for pk, *numbers in counted}
    # a batch may have been stored by a project itself
    batches = Batch.objects.filter(among(messages, "message")).values_list("message", flat=True)
    waiting = set(batches)
    for pk, (status, date, updated, blanked_at) in messages.items():
        number, still_open, given_up, last, untallied = counts.get(pk, (0, 0, 0, None, 0))
        if still_open or pk in waiting:
            continue
        ended = max(each for each in (date, updated, last) if each is not None)
        period = FAILED if given_up or status == Status.ERRORED else DELIVERED
        before = rules.before(period)
        if before is not None and ended < before:
            if not untallied:
                verdict.delete[pk] = number
                continue
            verdict.untallied += 1
        if rules.text is not None and ended < rules.text and blanked_at is None:
            verdict.blank.append(pk)
    return verdict


def _untallied() -> Q:
    """Return the condition that a transmission is of an hour whose tallies are not final."""
    found = Q()
    hours = Hour.objects.order_by("start").values_list("first_id", "is_final")
    begun: int | None = 0  # what is older than the oldest known hour is not tallied either
    for first_id, is_final in hours:
        if begun is not None and is_final:
            found |= Q(pk__gte=begun, pk__lt=first_id)
        if begun is None or is_final:
            begun = None if is_final else first_id
    return found if begun is None else found | Q(pk__gte=begun)
