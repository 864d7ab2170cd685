"""A message's status follows its transmissions, whoever writes them at the same instant."""

from functools import partial

import pytest
from django.utils.timezone import now

from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message
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
