"""Dividing transmissions by backend and into groups of a batch's size."""

from __future__ import annotations

import pytest

from rapidsms_db_router.models import Message, Transmission

pytestmark = pytest.mark.django_db


@pytest.fixture
def message(people):
    """A message to three people of one backend and two of another, in turns."""
    message = Message.objects.create(direction="O", text="text")
    phones, radios = people(3, "phones"), people(2, "radios")
    turns = [phones[0], radios[0], phones[1], radios[1], phones[2]]
    for connection in turns:
        Transmission.objects.create(message=message, connection=connection)
    return message


def sizes(groups):
    return [(group.backend_name, len(group.ids)) for group in groups]


def test_each_group_is_of_one_backend_in_the_order_of_ids(message):
    groups = list(message.transmissions.groups())
    assert sorted(sizes(groups)) == [("phones", 3), ("radios", 2)]
    assert all(group.ids == sorted(group.ids) for group in groups)


def test_each_backend_has_its_own_batch_size(message, settings):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 2
    settings.INSTALLED_BACKENDS = {"radios": {"router.db.batch_size": 1}}
    assert sorted(sizes(message.transmissions.groups())) == [
        ("phones", 1),
        ("phones", 2),
        ("radios", 1),
        ("radios", 1),
    ]


def test_a_size_that_is_given_comes_first(message, settings):
    settings.INSTALLED_BACKENDS = {"radios": {"router.db.batch_size": 1}}
    assert sorted(sizes(message.transmissions.groups(2))) == [
        ("phones", 1),
        ("phones", 2),
        ("radios", 2),
    ]


@pytest.mark.parametrize("size", [1, 5])
def test_groups_cost_one_query_whatever_their_number(message, size, django_assert_num_queries):
    with django_assert_num_queries(1):
        list(message.transmissions.groups(size))


def test_every_row_is_in_one_group(message):
    ids = [pk for group in message.transmissions.groups(2) for pk in group.ids]
    assert sorted(ids) == sorted(message.transmissions.values_list("pk", flat=True))


def test_no_rows_make_no_group(message):
    assert list(message.transmissions.none().groups()) == []
