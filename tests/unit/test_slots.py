"""How the concurrency of a backend is shared among senders."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import pytest
from rapidsms.models import Backend

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits.slots import LEASE, fair_share, lease_slots, release_slots
from rapidsms_db_router.models import SlotLease


@pytest.mark.parametrize(
    ("slots", "wanted", "others", "share"),
    [
        (50, 50, [], 50),
        (50, 10, [], 10),
        (50, 50, [50], 25),
        (50, 50, [50, 50], 16),
        (50, 50, [10], 40),
        (50, 50, [10, 50], 20),
        (50, 5, [50, 50], 5),
        (50, 50, [0, 0], 50),
        (50, 0, [50], 0),
        # nobody has nothing for ever
        (1, 1, [1, 1, 1], 1),
        (2, 5, [5, 5, 5], 1),
    ],
)
def test_the_share_of_one_sender(slots, wanted, others, share):
    assert fair_share(slots, wanted, others) == share


def test_shares_are_max_min_fair_whatever_senders_want():
    chance = random.Random(1)
    for _ in range(3000):
        slots = chance.randint(1, 60)
        wants = [chance.randint(0, 60) for _ in range(chance.randint(1, 8))]
        shares = [
            fair_share(slots, want, [*wants[:n], *wants[n + 1 :]]) for n, want in enumerate(wants)
        ]
        case = slots, wants, shares
        assert all(share <= want for share, want in zip(shares, wants, strict=True)), case
        hungry = [n for n, want in enumerate(wants) if shares[n] < want]
        if sum(map(bool, wants)) <= slots:
            assert sum(shares) <= slots, case
            # less than one slot for each sender is left over, if any wants more
            assert not hungry or slots - sum(shares) < len(wants), case
        # a sender that wants more has no less than any other
        assert all(shares[n] >= share for n in hungry for share in shares), case


# Leases


SENDERS = [uuid.UUID(int=number) for number in range(1, 9)]


@pytest.fixture
def backend(db):
    """A backend."""
    return Backend.objects.create(name="phones")


@pytest.fixture
def ask(backend):
    """A function that has a sender ask for slots."""

    def ask(sender, wanted, slots=10, in_flight=0, abandoned=0, moment=None):
        return lease_slots(
            backend.pk,
            SENDERS[sender],
            slots=slots,
            wanted=wanted,
            in_flight=in_flight,
            abandoned=abandoned,
            moment=moment or now(),
        )[0]

    return ask


def test_one_sender_has_all_slots(ask):
    assert ask(0, wanted=10) == 10
    assert ask(0, wanted=4) == 4


def test_a_second_sender_waits_for_the_first_to_ask_again(ask):
    assert ask(0, wanted=10) == 10
    assert ask(1, wanted=10) == 0
    assert ask(0, wanted=10) == 5
    assert ask(1, wanted=10) == 5


def test_slots_of_calls_in_flight_are_not_taken_away(ask):
    ask(0, wanted=10)
    ask(1, wanted=10)
    assert ask(0, wanted=10, in_flight=8) == 5
    assert ask(1, wanted=10) == 2


@pytest.mark.parametrize("senders", [2, 3, 4, 6, 7, 8])
@pytest.mark.parametrize("slots", [1, 3, 10, 50])
def test_in_the_end_all_slots_are_leased_and_none_twice(ask, slots, senders):
    leased = {}
    for _ in range(4):
        for sender in range(senders):
            leased[sender] = ask(sender, wanted=slots, slots=slots)
            assert sum(SlotLease.objects.values_list("slots", flat=True)) <= slots
    assert sum(leased.values()) == slots
    assert max(leased.values()) - min(leased.values()) <= 1


def test_what_one_sender_leaves_another_has(ask):
    ask(0, wanted=10)
    ask(1, wanted=2)
    assert ask(0, wanted=10) == 8
    assert ask(1, wanted=2) == 2
    assert ask(0, wanted=10) == 8


def test_a_lease_that_is_not_renewed_ends(ask):
    moment = now()
    ask(0, wanted=10, in_flight=10, moment=moment)
    assert ask(1, wanted=10, moment=moment + LEASE - timedelta(seconds=1)) == 0
    assert ask(1, wanted=10, moment=moment + LEASE) == 10


def test_a_sender_that_wants_nothing_has_no_lease(ask):
    ask(0, wanted=10)
    assert ask(0, wanted=0, in_flight=1) == 0
    assert SlotLease.objects.get().in_flight == 1
    assert ask(0, wanted=0, abandoned=2) == 0
    assert SlotLease.objects.get().abandoned == 2
    assert ask(0, wanted=0) == 0
    assert not SlotLease.objects.exists()


def test_a_sender_releases_its_own_slots_alone(ask, backend):
    ask(0, wanted=5)
    ask(1, wanted=5)
    release_slots(backend.pk, SENDERS[0])
    assert [lease.sender for lease in SlotLease.objects.all()] == [SENDERS[1]]


def test_backends_do_not_share_slots(ask):
    ask(0, wanted=10)
    other = Backend.objects.create(name="other")
    leased = lease_slots(
        other.pk, SENDERS[1], slots=10, wanted=10, in_flight=0, abandoned=0, moment=now()
    )
    assert leased == (10, 1.0)


def test_a_sender_is_told_what_part_of_the_slots_it_has(backend):
    parts = []
    for sender in SENDERS[:2] * 2:
        lease = lease_slots(
            backend.pk, sender, slots=10, wanted=10, in_flight=0, abandoned=0, moment=now()
        )
        parts.append(lease)
    assert parts == [(10, 1.0), (0, 0.0), (5, 1.0), (5, 0.5)]
