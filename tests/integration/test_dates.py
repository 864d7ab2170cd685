"""Messages that are held, that expire, and that are cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from rapidsms.router import receive, send

from rapidsms_db_router import delivery, gates
from rapidsms_db_router.clock import now
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.recovery import recover

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def broadcast(worker, connections, **dates):
    with worker.commit():
        return send("news", connections, **dates).database_message


def let_an_hour_pass(message):
    """Move the message's dates back."""
    row = Message.objects.get(pk=message.pk)
    for name in ("due", "not_before", "expires_at"):
        date = getattr(row, name)
        setattr(row, name, date and date - HOUR - timedelta(minutes=1))
    row.save()


def look(message):
    """Return the letters, and the errors, of a message and its transmissions."""
    message.refresh_from_db()
    rows = list(message.transmissions.order_by("pk"))
    return message.status + "".join(row.status for row in rows), {row.error for row in rows}


# Held


def test_a_message_is_held_until_its_date(worker, people, calls):
    message = broadcast(worker, people(3), not_before=now() + HOUR)
    assert worker.work() == []
    recover()
    worker.work()
    assert (look(message)[0], calls) == ("QQQQ", [])
    let_an_hour_pass(message)
    with worker.commit():
        recover()
    assert look(message)[0] == "PQQQ"
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
    assert worker.work() == []
    assert (look(message), calls) == (("EEEE", {"expired"}), [])
    assert message.error == "3 of 3 transmissions errored"
    assert (message.due, Batch.objects.count()) == (None, 0)


def test_what_is_sent_in_time_is_sent(worker, people):
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    worker.work()
    assert look(message)[0] == "SSSS"


def test_what_waits_for_another_try_expires(worker, people, installed_backends, calls):
    installed_backends["phones"]["ENGINE"] = "tests.service.backends.FailingBackend"
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    (retry,) = worker.work()
    let_an_hour_pass(message)
    Transmission.objects.update(next_try=now())
    worker.run(retry)
    assert (look(message), len(calls)) == (("EEEE", {"expired"}), 1)
    assert set(message.transmissions.values_list("next_try", flat=True)) == {None}


def test_what_nobody_takes_expires_by_recovery(worker, people, calls):
    gates.pause(people(1)[0].backend)
    message = broadcast(worker, people(3), expires_at=now() + HOUR)
    worker.work()
    message.refresh_from_db()
    assert message.due <= message.expires_at
    let_an_hour_pass(message)
    recover()
    assert (look(message), calls) == (("EEEE", {"expired"}), [])
    assert not Batch.objects.exists()


def test_a_message_that_expires_later_than_recovery_looks_is_looked_at_then(worker, people):
    gates.pause(people(1)[0].backend)
    message = broadcast(worker, people(3), expires_at=now() + 10 * HOUR)
    Message.objects.update(due=now())
    recover()
    message.refresh_from_db()
    assert now() < message.due < message.expires_at
    Message.objects.update(expires_at=now() + timedelta(seconds=5), due=now())
    recover()
    message.refresh_from_db()
    assert message.due == message.expires_at


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


def test_what_is_still_queued_can_be_cancelled(worker, people, settings, calls, monkeypatch):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    monkeypatch.setattr(delivery, "MOMENT", 0)
    message = broadcast(worker, people(4))
    first, *others = worker.take()
    worker.run(first)
    assert delivery.cancel(Message.objects.all()) == 3
    for task in [*others, *worker.take()]:
        worker.run(task)
    assert len(calls) == 1
    letters, errors = look(message)
    assert (letters, errors) == ("ESEEE", {"", "cancelled"})
    assert not Batch.objects.exists()


def test_what_is_being_sent_is_left_alone(worker, people, installed_backends):
    from tests.service.backends import RecordingBackend

    class Gateway(RecordingBackend):
        def send(self, **kwargs):
            super().send(**kwargs)
            delivery.cancel(Message.objects.all())

    installed_backends["phones"]["ENGINE"] = Gateway
    message = broadcast(worker, people(3))
    worker.work()
    assert look(message) == ("SSSS", {""})


def test_a_held_message_can_be_cancelled(worker, people, calls):
    message = broadcast(worker, people(2), not_before=now() + HOUR)
    assert delivery.cancel(Message.objects.all()) == 2
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
    assert delivery.cancel(Message.objects.all()) == 0
    assert look(message)[0] == "SS"
    assert Message.objects.get(direction="I").status == "Q"


def test_what_was_cancelled_can_be_sent_all_the_same(worker, people, calls):
    message = broadcast(worker, people(2))
    delivery.cancel(Message.objects.all())
    with worker.commit():
        count, _ = delivery.resend(message.transmissions.all())
    assert count == 2
    recover()
    Message.objects.update(due=now())
    Batch.objects.update(due=now())
    recover()
    worker.work()
    assert look(message)[0] == "SSS"


@pytest.mark.parametrize("may", [True, False])
def test_the_admin_cancels_for_those_who_may(worker, people, client, may):
    message = broadcast(worker, people(2))
    user = User.objects.create_user("staff", is_staff=True)
    names = ["view_message", *(["cancel_message"] if may else [])]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    answer = client.post(
        reverse("admin:rapidsms_db_router_message_changelist"),
        {"action": "cancel", "_selected_action": [message.pk]},
        follow=True,
    )
    assert ("2 transmissions were cancelled." in answer.content.decode()) is may
    assert look(message)[0] == ("EEE" if may else "PQQ")
