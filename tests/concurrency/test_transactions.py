"""What a transaction has not committed is neither seen nor done by anyone else."""

import pytest
from django.db import transaction
from rapidsms.router import receive, send

from rapidsms_db_router.models import Message, Transmission
from tests.concurrency.parallel import elsewhere

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["receive", "send"])
def store_one(request, router, make_connections):
    """Store one message, inbound or outbound."""
    connections = make_connections(3)
    if request.param == "receive":
        return lambda: receive("ping", connections[0])
    return lambda: send("broadcast", connections)


def test_nothing_is_seen_or_queued_before_the_commit(store_one, published):
    with transaction.atomic():
        with transaction.atomic():
            store_one()
        assert elsewhere(Message.objects.count) == 0
        assert published() == []

    assert elsewhere(Message.objects.count) == 1
    assert elsewhere(Message.objects.get) == Message.objects.get()
    ((_, kwargs),) = published()
    assert kwargs["message_id"] == Message.objects.get().pk


def test_nothing_is_stored_or_queued_by_a_rollback(store_one, published):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        store_one()
        1 / 0  # noqa: B018

    assert elsewhere(Message.objects.count) == 0
    assert elsewhere(Transmission.objects.count) == 0
    assert published() == []
