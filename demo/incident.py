"""Rows as a service has them during an incident, for the pictures of the documentation."""

import datetime
import itertools
import random
import uuid

from django.db import transaction
from rapidsms.models import Backend, Connection, Contact

from rapidsms_db_router import bulk_actions
from rapidsms_db_router.acting import acted
from rapidsms_db_router.choices import Direction, Status
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import (
    BackendState,
    Batch,
    Message,
    RecoverySchedule,
    SlotLease,
    Transmission,
)
from rapidsms_db_router.operations.models import Broadcast, Draft, Hour, Outcome, Span, Tally
from rapidsms_db_router.operations.models import Latency as Histogram
from rapidsms_db_router.operations.tallies import filling

HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
NAMES = (
    "Grace",
    "Samuel",
    "Amina",
    "Peter",
    "Nakato",
    "Joseph",
    "Ruth",
    "Ibrahim",
    "Mercy",
    "Okello",
)
NO_CREDIT = "HTTPError: HTTP 403: no credit"
REASONS = ("MessageSendingError: Refused: no such number", "outcome unknown: time-out", NO_CREDIT)
TEXTS = (
    ("report malaria 3", "Thank you, {}. Noted: malaria: 3."),
    ("report cholera 1", "Thank you, {}. Noted: cholera: 1."),
    ("help", "Send REGISTER <your name>, then REPORT <disease> <cases>."),
)
BROADCAST = "Vaccination day is on Friday, from 8 in the morning."
#: How many people the broadcast is for, and how many were sent it before the gateway failed.
PEOPLE, REACHED = 1200, 700


class Incident:
    """The gateway ``north`` has had no credit for forty minutes, in the middle of a broadcast."""

    def __init__(self):
        self.random = random.Random(2)  # the same pictures each time
        self.moment = now()
        self.since = self.moment - 40 * MINUTE
        self.working, _ = Backend.objects.get_or_create(name="gateway")
        self.failing, _ = Backend.objects.get_or_create(name="north")
        self.others = self.people(self.working, "+25677200", 40)
        self.reached = self.people(self.failing, "+25678200", PEOPLE)

    @transaction.atomic
    def fill(self):
        """Store all rows."""
        RecoverySchedule.objects.update_or_create(
            pk=1, defaults={"next_look": self.moment + 10 * MINUTE}
        )
        # in the order of their dates, as rows of a service are
        self.history()
        self.scheduled()
        self.conversations(24 * HOUR, 50 * MINUTE, 1500)
        self.broadcast()
        self.conversations(38 * MINUTE, MINUTE, 60)
        self.states()
        filling.fill(60)
        self.actions()
        self.draft = Draft.objects.create(text=BROADCAST, backend=self.working, author="demo")

    def people(self, backend, prefix, count):
        """Return connections of people with names."""
        names = itertools.cycle(NAMES)
        contacts = [Contact(name=name) for name, _ in zip(names, range(count), strict=False)]
        contacts = Contact.objects.bulk_create(contacts)
        return Connection.objects.bulk_create(
            Connection(backend=backend, contact=contact, identity=f"{prefix}{number:04}")
            for number, contact in enumerate(contacts, start=1)
        )

    def history(self):
        """Store tallies of two weeks whose rows are of no interest."""
        first = (self.moment - 14 * 24 * HOUR).replace(minute=0, second=0, microsecond=0)
        start = first
        while start < self.moment - 26 * HOUR:
            hour = Hour.objects.create(
                start=start, first_id=1, tallied_at=start + HOUR, is_final=True
            )
            busy = 400 if 5 <= start.hour <= 18 else 40
            for backend in (self.working, self.failing):
                self.tally(hour, backend, busy * self.random.uniform(0.7, 1.3))
            start += HOUR

    def tally(self, hour, backend, count):
        """Store the tallies of an hour and a backend: nine in ten delivered, one in 100 failed."""
        shares = {Outcome.DELIVERED: 0.9, Outcome.SENT: 0.09, Outcome.FAILED: 0.01}
        for outcome, share in shares.items():
            rows = int(count * share)
            reason = REASONS[0] if outcome == Outcome.FAILED else ""
            Tally.objects.create(
                hour=hour, backend=backend.name, direction=Direction.OUTGOING, outcome=outcome,
                reason=reason, transmissions=rows, segments=rows,
            )  # fmt: skip
        for span in Span:
            counts = [int(count * share) for share in (0.6, 0.2, 0.1, 0.06, 0.03, 0.01)] + [0] * 9
            Histogram.objects.create(hour=hour, backend=backend.name, span=span, counts=counts)

    def conversations(self, oldest, newest, count):
        """Store texts of these ages, and their answers."""
        for number in range(count):
            date = self.moment - oldest + (oldest - newest) * number / count
            person = self.others[number % len(self.others)]
            text, answer = TEXTS[number % len(TEXTS)]
            asked = self.store(person, text, date, Status.RECEIVED, direction=Direction.INCOMING)
            seconds = self.random.uniform(0.3, 4)
            sent = date + datetime.timedelta(seconds=seconds)
            self.store(
                person, answer.format(person.contact.name), date, Status.DELIVERED, asked,
                sent=sent, delivered=sent + datetime.timedelta(seconds=4 * seconds),
            )  # fmt: skip

    def store(
        self, person, text, date, status, asked=None, direction=Direction.OUTGOING, **columns
    ):
        """Store a message to, or from, one person; return it."""
        message = Message.objects.create(
            direction=direction, text=text, status=status, date=date, in_response_to=asked
        )
        Transmission.objects.create(
            message=message, connection=person, status=status, date=date, **columns
        )
        return message

    def broadcast(self):
        """Store the broadcast that the gateway failed in."""
        began = self.since - 3 * MINUTE
        self.message = Message.objects.create(
            direction=Direction.OUTGOING, text=BROADCAST, status=Status.PROCESSING, date=began
        )
        rows = Transmission.objects.bulk_create(
            Transmission(
                message=self.message, connection=person, date=began, **self.end(number, began)
            )
            for number, person in enumerate(self.reached)
        )
        waiting = [row.pk for row in rows if row.status == Status.QUEUED]
        for place, first in enumerate(range(0, len(waiting), 200)):
            Batch.objects.create(
                message=self.message, backend=self.failing, position=place,
                transmission_ids=waiting[first : first + 200], due_at=began, ready_at=began,
            )  # fmt: skip
        retrying = [row.pk for row in rows if row.next_try]
        Batch.objects.create(
            message=self.message, backend=self.failing, transmission_ids=retrying,
            due_at=began, ready_at=self.moment + 5 * MINUTE,
        )  # fmt: skip
        Broadcast.objects.create(message=self.message, recipients=len(rows), author="amina")

    def end(self, number, began):
        """Return the columns of a recipient of the broadcast."""
        sent = began + datetime.timedelta(seconds=number / 4)
        if number >= REACHED:
            return {"status": Status.QUEUED}
        if number % 100 == 0:
            return {"status": Status.ERRORED, "error": REASONS[0], "attempts": 4}
        if number % 70 == 0:
            return {"status": Status.ERRORED, "error": REASONS[1], "attempts": 1}
        if number >= REACHED - 80:
            return {"status": Status.ERRORED, "error": NO_CREDIT, "attempts": 4}
        if number % 37 == 0:
            later = self.moment + 5 * MINUTE
            error = "MessageSendingError: Refused: phone switched off"
            return {"status": Status.ERRORED, "error": error, "attempts": 2, "next_try": later}
        if number % 12 == 0:
            return {"status": Status.SENT, "sent": sent, "attempts": 1}
        delivered = sent + datetime.timedelta(seconds=8)
        return {
            "status": Status.DELIVERED, "sent": sent, "delivered": delivered, "attempts": 1,
        }  # fmt: skip

    def scheduled(self):
        """Store a broadcast for tomorrow."""
        tomorrow = self.moment + 18 * HOUR
        message = Message.objects.create(
            direction=Direction.OUTGOING, status=Status.QUEUED, not_before=tomorrow,
            text="Remember: bring the child's health card.", date=self.moment - 25 * HOUR,
        )  # fmt: skip
        rows = Transmission.objects.bulk_create(
            Transmission(message=message, connection=person, date=message.date)
            for person in self.others
        )
        ids = [row.pk for row in rows]
        Batch.objects.create(
            message=message, backend=self.working, transmission_ids=ids,
            due_at=tomorrow, ready_at=tomorrow,
        )  # fmt: skip
        Broadcast.objects.create(message=message, recipients=len(rows), author="amina")

    def states(self):
        """Store what the backends do now."""
        BackendState.objects.update_or_create(
            backend=self.failing,
            defaults={
                "failures": 9, "reason": NO_CREDIT, "opened_at": self.since,
                "open_until": self.moment + 12 * MINUTE,
            },
        )  # fmt: skip
        for number in range(2):
            SlotLease.objects.create(
                backend=self.working, sender=uuid.UUID(int=number + 1), slots=10, in_flight=3,
                pace=1.4, expires_at=self.moment + HOUR,
            )  # fmt: skip

    def actions(self):
        """Store one bulk action that is done, and one that is asked for."""
        failed = Transmission.objects.filter(message=self.message)
        done = bulk_actions.prepare("resend", failed.filter(error=REASONS[1]), "amina")
        done.chunks.all().delete()
        done.state, done.changed, done.handled = "done", done.total, done.total
        done.finished = self.moment
        done.save()
        acted("set_limits", "amina", self.failing, before={"rate": ""}, after={"rate": "20/s"})
        acted(done.kind, "amina", done, count=done.total, reason="the gateway has none of them")
        self.action = bulk_actions.prepare("resend", failed.filter(error=NO_CREDIT), "demo")
