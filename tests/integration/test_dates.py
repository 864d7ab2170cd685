"""Messages that are held, that expire, and that are cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.urls import reverse
from rapidsms.router import receive, send

from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message
from rapidsms_db_router.outbound import outbox
from rapidsms_db_router.outbound.again import resend
from rapidsms_db_router.outbound.discarding import cancel
from rapidsms_db_router.recovery import recover
from tests.integration.acting import act
from tests.integration.executors import SlowGateway

pytestmark = pytest.mark.django_db

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def broadcast(worker, connections, **dates):
    with worker.commit():
        return send("news", connections, **dates).database_message


def let_an_hour_pass(message):
    """Move the dates of the message and of its batches back."""
    row = Message.objects.get(pk=message.pk)
    for name in ("recover_at", "not_before", "expires_at"):
        date = getattr(row, name)
        setattr(row, name, date and date - HOUR - MINUTE)
    row.save()
    Batch.objects.filter(message=message).update(
        due_at=F("due_at") - HOUR - MINUTE, ready_at=F("ready_at") - HOUR - MINUTE
    )


def look(message):
    """Return the letters, and the errors, of a message and its transmissions."""
    message.refresh_from_db()
    rows = list(message.transmissions.order_by("pk"))
    return message.status + "".join(row.status for row in rows), {row.error for row in rows}


# Held


def test_a_message_is_held_until_its_date(worker, people, calls):
    message = broadcast(worker, people(3), not_before=now() + HOUR)
    assert worker.take() == []
    recover()
    worker.sender.wake(people(1)[0].backend)
    worker.work()
    worker.step()
    assert (look(message)[0], calls) == ("QQQQ", [])
    let_an_hour_pass(message)
    with worker.commit():
        recover()
    worker.work()
    assert (look(message)[0], len(calls)) == ("SSSS", 1)


def test_a_date_that_is_past_holds_nothing(worker, people):
    message = broadcast(worker, people(1), not_before=now() - HOUR)
    worker.work()
    assert look(message)[0] == "SS"


def test_a_reply_may_be_held(worker, person, calls, monkeypatch):
    from tests.service.app import ServiceApp

    def answer_later(self, msg):
        msg.respond("later", not_before=now() + HOUR)
        msg.respond("now")
        msg.respond("soon", expires_at=now() + HOUR)
        return True

    monkeypatch.setattr(ServiceApp, "handle", answer_later)
    with worker.commit():
        receive("hello", person)
    worker.work()
    assert {call.text for call in calls} == {"now", "soon"}
    held = Message.objects.get(text="later")
    assert look(held)[0] == "QQ"
    let_an_hour_pass(held)
    with worker.commit():
        recover()
    worker.work()
    assert look(held)[0] == "SS"


def test_a_held_message_is_released_in_eager_mode_too(celery_setting, people, calls):
    celery_setting("task_always_eager", True)
    message = send("news", people(2), not_before=now() + HOUR).database_message
    assert calls == []
    let_an_hour_pass(message)
    recover()
    assert look(message)[0] == "SSS"


# Expired


def test_what_is_not_sent_in_time_is_not_sent(worker, people, calls):
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    let_an_hour_pass(message)
    worker.work()
    assert (look(message), calls) == (("EEEE", {"expired"}), [])
    assert message.error == "3 of 3 transmissions errored"
    assert (message.recover_at, Batch.objects.count()) == (None, 0)


def test_what_is_sent_in_time_is_sent(worker, people):
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    worker.work()
    assert look(message)[0] == "SSSS"


def test_what_waits_for_another_try_expires(worker, people, installed_backends, calls):
    installed_backends["phones"]["ENGINE"] = "tests.service.backends.FailingBackend"
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    worker.work()
    let_an_hour_pass(message)
    worker.make_due()
    assert (look(message), len(calls)) == (("EEEE", {"expired"}), 1)
    assert set(message.transmissions.values_list("next_try", flat=True)) == {None}


def test_what_no_sender_claims_expires_by_recovery(worker, people, calls):
    operators.pause(people(1)[0].backend)
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    worker.work()
    message.refresh_from_db()
    assert message.recover_at <= message.expires_at
    let_an_hour_pass(message)
    recover()
    assert (look(message), calls) == (("EEEE", {"expired"}), [])
    assert not Batch.objects.exists()


def test_a_message_that_expires_later_than_recovery_looks_is_looked_at_then(worker, people):
    operators.pause(people(1)[0].backend)
    message = broadcast(worker, people(3), expires_at=now() + 10 * HOUR)
    Message.objects.update(recover_at=now())
    recover()
    message.refresh_from_db()
    assert now() < message.recover_at < message.expires_at
    Message.objects.update(expires_at=now() + timedelta(seconds=5), recover_at=now())
    recover()
    message.refresh_from_db()
    assert message.recover_at == message.expires_at


@pytest.mark.parametrize("name", ["not_before", "expires_at"])
@pytest.mark.parametrize(
    "value", ["tomorrow", 5, datetime(2030, 1, 1).date(), datetime(2030, 1, 1)], ids=repr
)
def test_what_is_no_moment_is_refused_and_nothing_is_stored(people, name, value):
    with pytest.raises(ValueError, match=name):
        send("news", people(1), **{name: value})
    assert not Message.objects.exists()


def test_without_time_zones_a_moment_is_naive(people, settings, worker):
    settings.USE_TZ = False
    with pytest.raises(ValueError, match="naive"):
        send("news", people(1), not_before=datetime(2030, 1, 1, tzinfo=timezone.utc))


def test_what_would_expire_before_it_may_be_sent_is_refused(people):
    moment = now() + HOUR
    with pytest.raises(ValueError, match="no later than"):
        send("news", people(1), not_before=moment, expires_at=moment)


# Cancelled


@pytest.mark.parametrize("claimed", [False, True], ids=["waits in the database", "is claimed"])
def test_what_is_still_queued_can_be_cancelled(
    worker, people, installed_backends, settings, claimed
):
    if claimed:
        installed_backends["phones"]["router.db.batch_size"] = 1
    else:
        settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    installed_backends["phones"]["router.db.concurrency"] = 1
    message = broadcast(worker, people(4))
    assert Batch.objects.count() == (1 if claimed else 4)
    gateway = worker.sender.executor = SlowGateway()
    worker.sender.wake(people(1)[0].backend)
    worker.sender.step()
    assert (len(gateway.calls), look(message)[0]) == (1, "PPQQQ")
    assert cancel(Message.objects.all()) == 3
    gateway.answer(0)
    worker.step()
    assert len(gateway.calls) == 1
    letters, errors = look(message)
    assert (letters, errors) == ("ESEEE", {"", "cancelled"})
    assert not Batch.objects.exists()


def test_what_is_being_sent_is_left_alone(worker, people, installed_backends):
    from tests.service.backends import RecordingBackend

    class Gateway(RecordingBackend):
        def send(self, **kwargs):
            super().send(**kwargs)
            cancel(Message.objects.all())

    installed_backends["phones"]["ENGINE"] = Gateway
    message = broadcast(worker, people(3))
    worker.work()
    assert look(message) == ("SSSS", {""})


def test_a_held_message_can_be_cancelled(worker, people, calls):
    message = broadcast(worker, people(2), not_before=now() + HOUR)
    assert cancel(Message.objects.all()) == 2
    let_an_hour_pass(message)
    recover()
    worker.work()
    assert (look(message), calls) == (("EEE", {"cancelled"}), [])


def test_to_cancel_what_is_sent_or_came_in_changes_nothing(worker, person):
    with worker.commit():
        receive("hello", person)
    message = broadcast(worker, person)
    inbound = worker.take()
    for task in inbound:
        if task.name == "send_transmissions":
            worker.run(task)
    assert cancel(Message.objects.all()) == 0
    assert look(message)[0] == "SS"
    assert Message.objects.get(direction="I").status == "Q"


def test_what_was_cancelled_can_be_sent_all_the_same(worker, people, calls):
    message = broadcast(worker, people(2))
    cancel(Message.objects.all())
    with worker.commit():
        count, (pk,) = resend(message.transmissions.all())
        outbox.send([pk])
    assert (count, pk) == (2, message.pk)
    worker.work()
    assert look(message)[0] == "SSS"


@pytest.mark.parametrize("may", [True, False])
def test_the_admin_cancels_for_those_who_may(worker, people, client, may):
    message = broadcast(worker, people(2))
    user = User.objects.create_user("staff", is_staff=True)
    names = ["view_message", *(["cancel_message"] if may else [])]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    page = reverse("admin:rapidsms_db_router_message_changelist")
    answer = act(client, page, "cancel", message.pk)
    assert ("2 transmissions were cancelled." in answer.content.decode()) is may
    assert look(message)[0] == ("EEE" if may else "PQQ")
