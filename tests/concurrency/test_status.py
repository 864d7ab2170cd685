"""A message's status follows its transmissions, whoever writes them at the same instant."""

from functools import partial

import pytest
from django.utils.timezone import now

from rapidsms_db_router import reports
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message, Transmission
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
