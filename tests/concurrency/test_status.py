"""A message's status follows its transmissions, whoever writes them at the same instant."""

from functools import partial

import pytest
from django.utils.timezone import now

from rapidsms_db_router import reports
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message, Part, Transmission
from tests.concurrency.parallel import in_threads

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 5
MESSAGES = 40


def test_status_is_right_after_writers_that_finish_together(router, make_connections):
    connections = make_connections(WRITERS)
    for number in range(MESSAGES):
        router.queue_message("O", connections, f"broadcast {number}")

    def deliver(connection):
        for message in Message.objects.order_by("pk"):
            # no look at what is pending first: a delivery report, or a resend, has no time for it
            message.transmissions.filter(connection=connection).update(
                status=Status.DELIVERED, delivered=now()
            )
            message.set_status()

    in_threads(*[partial(deliver, connection) for connection in connections])

    assert set(Message.objects.values_list("status", flat=True)) == {Status.DELIVERED}
    assert not Message.objects.filter(delivered=None).exists()


def test_status_is_right_after_reports_that_come_together(router, make_connections):
    connections = make_connections(WRITERS)
    for number in range(MESSAGES):
        router.queue_message("O", connections, f"broadcast {number}")
    Transmission.objects.update(status=Status.SENT, sent=now(), attempts=1)

    def report(connection):
        for pk in Message.objects.order_by("pk").values_list("pk", flat=True):
            outcome = "failed" if pk % 2 and connection == connections[0] else "delivered"
            reports.record(outcome, message_id=pk, identity=connection.identity)

    in_threads(*[partial(report, connection) for connection in connections])

    for message in Message.objects.all():
        assert message.status == (Status.ERRORED if message.pk % 2 else Status.DELIVERED)
    assert not Message.objects.filter(recover_at__isnull=False).exists()


def test_a_transmission_is_delivered_by_reports_of_its_parts_that_come_together(
    router, make_connections
):
    people = make_connections(1)
    for number in range(MESSAGES):
        router.queue_message("O", people, f"broadcast {number}")
    Transmission.objects.update(status=Status.SENT, sent=now(), attempts=1)
    for pk in list(Transmission.objects.values_list("pk", flat=True)):
        Part.objects.replace({pk: [f"{pk}/{number}" for number in range(WRITERS)]})
    ids = list(Transmission.objects.order_by("pk").values_list("pk", flat=True))

    def report(number):
        for pk in ids:
            reports.record("delivered", external_id=f"{pk}/{number}")

    in_threads(*[partial(report, number) for number in range(WRITERS)])

    assert set(Transmission.objects.values_list("status", flat=True)) == {Status.DELIVERED}
    assert set(Message.objects.values_list("status", flat=True)) == {Status.DELIVERED}


def test_a_part_that_failed_counts_whatever_is_reported_at_the_same_instant(
    router, make_connections
):
    (connection,) = make_connections(1)
    for _ in range(MESSAGES):
        router.queue_message("O", [connection], "x" * 200)
    Transmission.objects.update(status=Status.SENT, sent=now(), attempts=1)

    def report(outcome):
        for pk in Message.objects.order_by("pk").values_list("pk", flat=True):
            reports.record(outcome, message_id=pk, identity=connection.identity)

    in_threads(*[partial(report, each) for each in ("delivered", "rejected", "rejected")])

    assert set(Transmission.objects.values_list("status", flat=True)) == {Status.ERRORED}
    assert set(Message.objects.values_list("status", flat=True)) == {Status.ERRORED}
