"""Actions on many rows: what is told is what is done, in chunks, whoever dies meanwhile."""

from __future__ import annotations

import re
from datetime import timedelta
from getpass import getuser

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rapidsms.router import send

from rapidsms_db_router import bulk_actions, signals
from rapidsms_db_router.admin.base import BoundedPaginator
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.models import Batch, BulkAction, BulkActionChunk, Message, Transmission
from rapidsms_db_router.models.bulk_action import STALLED
from rapidsms_db_router.outbound import again
from rapidsms_db_router.publishing import doorbells
from rapidsms_db_router.recovery import recover
from tests.integration.acting import act, ask, confirm

pytestmark = pytest.mark.django_db

MESSAGES = "/admin/rapidsms_db_router/message/"
TRANSMISSIONS = "/admin/rapidsms_db_router/transmission/"
ACTIONS = "/admin/rapidsms_db_router/bulkaction/"
CONTROL = re.compile("BEGIN|COMMIT|SAVEPOINT|RELEASE")


@pytest.fixture
def errored(people):
    """A function that stores so many messages to one person, all given up."""

    def errored(count, **columns):
        (person,) = people(1)
        messages = Message.objects.bulk_create(
            Message(direction="O", text="news", status="E", error="1 of 1", given_up=True)
            for _ in range(count)
        )
        stored = {"status": "E", "error": "refused", "attempts": 6, **columns}
        Transmission.objects.bulk_create(
            Transmission(message=message, connection=person, **stored) for message in messages
        )

    return errored


@pytest.fixture
def failed_inbound(people):
    """A function that stores so many inbound messages on which an app raised."""

    def failed_inbound(count):
        (person,) = people(1)
        messages = Message.objects.bulk_create(
            Message(direction="I", text=f"ping {n}", status="E", error="raised")
            for n in range(count)
        )
        Transmission.objects.bulk_create(
            Transmission(message=message, connection=person, status="E") for message in messages
        )

    return failed_inbound


@pytest.fixture
def chunks_of_two(monkeypatch):
    monkeypatch.setattr(bulk_actions, "CHUNK", 2)
    monkeypatch.setattr(again, "CHUNK", 2)


def statuses():
    return "".join(Transmission.objects.order_by("pk").values_list("status", flat=True))


def in_words(action):
    return action.state, action.total, action.handled, action.changed


# One chunk


@pytest.mark.parametrize("next_try", [None, timedelta(minutes=5)], ids=["given up", "to be tried"])
@pytest.mark.parametrize("kind", ["resend", "cancel", "reprocess"])
def test_a_chunk_of_many_messages_costs_what_one_of_few_costs(
    worker, people, errored, failed_inbound, kind, next_try
):
    def statements(count):
        for model in (Batch, Transmission, Message):
            model.objects.all().delete()
        if kind == "reprocess":
            failed_inbound(count)
        else:
            errored(count, next_try=next_try and now() + next_try)
        if kind == "cancel":
            Transmission.objects.update(status="Q")
        rows = Transmission.objects.all() if kind == "resend" else Message.objects.all()
        action = bulk_actions.prepare(kind, rows)
        with CaptureQueriesContext(connection) as captured, worker.commit():
            bulk_actions.start(action)
        assert in_words(action) == ("done", count, count, count)
        return sum(not CONTROL.match(query["sql"]) for query in captured.captured_queries)

    statements(2)
    assert statements(10) == statements(90) <= 30


#: What a plan says of a table that is read as a whole.
WHOLE = {
    "postgresql": ("EXPLAIN", r"Seq Scan on (rapidsms_db_router_(?:message|transmission|batch))\b"),
    "sqlite": ("EXPLAIN QUERY PLAN", r"SCAN (rapidsms_db_router_(?:message|transmission|batch))\b"),
}


@pytest.mark.skipif(connection.vendor not in WHOLE, reason="reads plans of PostgreSQL and SQLite")
@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
@pytest.mark.parametrize("kind", ["resend", "cancel", "reprocess"])
def test_a_chunk_reads_its_own_rows_and_no_others(
    worker, person, errored, failed_inbound, monkeypatch, kind, analyzed
):
    monkeypatch.setattr(bulk_actions, "CHUNK", 50)
    if kind == "reprocess":
        failed_inbound(3000)
    else:
        errored(3000, next_try=now())
    Batch.objects.bulk_create(
        Batch(message_id=message, backend_id=person.backend_id, transmission_ids=[pk])
        for pk, message in Transmission.objects.values_list("pk", "message")
    )
    rows = Transmission.objects.all() if kind == "resend" else Message.objects.all()
    action = bulk_actions.prepare(kind, rows.filter(pk__gt=0))
    explain, whole = WHOLE[connection.vendor]
    with connection.cursor() as cursor:
        if analyzed:
            cursor.execute("ANALYZE")
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            bulk_actions.start(action)
            assert action.handled == bulk_actions.CHUNK
            transaction.set_rollback(True)
        for query in captured.captured_queries:
            if query["sql"].startswith(("SELECT", "UPDATE", "DELETE")):
                cursor.execute(f"{explain} {query['sql']}")
                plan = "\n".join(str(row) for row in cursor.fetchall())
                assert not re.search(whole, plan), (query["sql"][:300], plan)


def test_each_message_of_a_chunk_has_its_status_and_its_batch(worker, people, errored):
    errored(3)
    with worker.commit():
        mixed = send("mixed", people(4)).database_message
    mixed.batches.all().delete()
    first, second, third, last = mixed.transmissions.order_by("pk")
    rows = Transmission.objects
    rows.filter(pk__in=[first.pk, second.pk]).update(status="E", error="refused")
    rows.filter(pk=third.pk).update(status="S")
    mixed.set_status()
    worker.take()
    action = bulk_actions.prepare("resend", rows.exclude(pk=second.pk))
    with worker.commit():
        bulk_actions.start(action)
    assert in_words(action) == ("done", 4, 4, 4)
    assert statuses() == "QQQ" + "QESQ"
    words = Message.objects.order_by("pk").values_list("status", "error", "given_up")
    assert list(words) == [("P", "", False)] * 3 + [("E", "1 of 4 transmissions errored", True)]
    queued = rows.filter(status="Q").exclude(pk=last.pk).order_by("pk")
    batches = Batch.objects.order_by("pk").values_list("transmission_ids", flat=True)
    assert list(batches) == [[row.pk] for row in queued]


def test_what_was_cancelled_before_its_date_is_held_until_then_all_the_same(worker, people, calls):
    later = now() + timedelta(hours=1)
    with worker.commit():
        send("news", people(2), not_before=later)
        act_on("cancel", Message.objects.all())
    with worker.commit():
        act_on("resend", Transmission.objects.all())
    worker.work()
    assert (statuses(), calls) == ("QQ", [])
    assert [batch.ready_at for batch in Batch.objects.all()] == [later]


def act_on(kind, rows):
    action = bulk_actions.prepare(kind, rows)
    bulk_actions.start(action)
    return action


@pytest.mark.usefixtures("chunks_of_two")
def test_a_broadcast_that_is_sent_again_in_chunks_is_one_broadcast_in_the_queue(
    worker, people, settings
):
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    with worker.commit():
        message = send("news", people(5)).database_message
    message.batches.all().delete()
    message.transmissions.update(status="E")
    message.set_status()
    worker.take()
    action = bulk_actions.prepare("resend", Transmission.objects.all())
    seen = []

    def tell(action):
        message.refresh_from_db()
        seen.append((message.status, action.handled))

    with worker.commit():
        bulk_actions.run_here(action, tell)
    # E as long as any transmission is E
    assert seen == [("E", 2), ("E", 4), ("P", 5)]
    assert list(Batch.objects.order_by("pk").values_list("position", flat=True)) == [0, 1, 2, 3, 4]


# The admin


@pytest.fixture
def admin(client):
    """A superuser's browser."""
    client.force_login(User.objects.create_superuser("admin"))
    return client


def said(response):
    return [str(message) for message in response.context["messages"]]


def test_the_number_that_is_shown_is_the_number_that_is_done(admin, worker, errored, people, calls):
    errored(3)
    question = ask(admin, MESSAGES, "resend", 0, select_across=1)
    assert b"3 errored transmissions will be sent again." in question.content
    assert statuses() == "EEE"
    assert BulkAction.objects.get().requested_by == "admin"
    errored(2)  # meanwhile
    with worker.commit():
        answer = confirm(admin, MESSAGES, question)
    assert said(answer) == ["3 errored transmissions will be sent again."]
    worker.work()
    assert statuses() == "SSSEE"
    # to send the form again changes nothing
    with worker.commit():
        confirm(admin, MESSAGES, question)
    assert (statuses(), len(calls)) == ("SSSEE", 3)


def test_what_left_its_status_meanwhile_is_not_counted(admin, worker, errored):
    errored(3)
    question = ask(admin, TRANSMISSIONS, "resend", 0, select_across=1)
    Transmission.objects.filter(pk=Transmission.objects.first().pk).update(status="D")
    answer = confirm(admin, TRANSMISSIONS, question)
    assert said(answer) == ["2 errored transmissions will be sent again."]
    assert in_words(BulkAction.objects.get()) == ("done", 3, 3, 2)
    assert statuses() == "DQQ"


def test_of_more_rows_than_are_counted_the_list_says_so_and_the_question_counts_them(
    admin, errored, monkeypatch
):
    errored(5)
    monkeypatch.setattr(BoundedPaginator, "most", 3)
    monkeypatch.setattr("django.contrib.admin.ModelAdmin.list_per_page", 2)
    page = admin.get(MESSAGES).content.decode()
    assert "All 3 or more selected" in page
    assert "Select all 3 or more messages" in page
    question = ask(admin, MESSAGES, "resend", 0, select_across=1)
    assert b"5 errored transmissions will be sent again." in question.content


@pytest.mark.usefixtures("chunks_of_two")
def test_of_many_rows_the_request_does_the_first_chunk_and_workers_do_the_rest(
    admin, worker, errored, calls
):
    errored(7)
    with worker.commit():
        answer = act(admin, MESSAGES, "resend", 0, select_across=1)
    (words,) = said(answer)
    assert "7 errored transmissions will be sent again. 2 of them are done" in words
    assert statuses() == "QQEEEEE"
    tasks = worker.take()
    assert sorted(task.name for task in tasks) == ["run_bulk_action", "send_transmissions"]
    assert BulkActionChunk.objects.count() == 3
    for task in tasks:
        worker.run(task)
    worker.work()
    assert (statuses(), len(calls)) == ("S" * 7, 7)
    assert in_words(BulkAction.objects.get()) == ("done", 7, 7, 7)
    assert "7 of 7" in admin.get(ACTIONS).content.decode()


@pytest.mark.usefixtures("chunks_of_two")
def test_a_long_one_gives_way_to_other_tasks(worker, errored, monkeypatch):
    monkeypatch.setattr(bulk_actions, "SLICE", 0)
    errored(6)
    with worker.commit():
        act_on("resend", Transmission.objects.all())
    (again,) = [task for task in worker.take() if task.name == "run_bulk_action"]
    worker.run(again)
    assert BulkAction.objects.get().handled == 4
    assert "run_bulk_action" in [task.name for task in worker.take()]


@pytest.mark.usefixtures("chunks_of_two")
@pytest.mark.parametrize("may", [True, False])
def test_it_is_stopped_by_those_who_may(client, worker, errored, may):
    errored(5)
    with worker.commit():
        action = act_on("resend", Transmission.objects.all())
    user = User.objects.create_user("staff", is_staff=True)
    mine = ["view_bulkaction", "resend_message" if may else "cancel_message"]
    user.user_permissions.set(Permission.objects.filter(codename__in=mine))
    client.force_login(user)
    answer = ask(client, ACTIONS, "stop", action.pk)
    assert said(answer) == [f"{int(may)} bulk actions were stopped."]
    worker.work()
    action.refresh_from_db()
    if may:
        assert in_words(action) == ("stopped", 5, 2, 2)
        assert statuses() == "SSEEE"
        assert not BulkActionChunk.objects.exists()
    else:
        assert in_words(action) == ("done", 5, 5, 5)


def test_a_question_is_answered_by_its_asker_alone(client, errored):
    errored(2)
    one, other = (User.objects.create_superuser(name) for name in ("one", "other"))
    client.force_login(one)
    question = ask(client, MESSAGES, "resend", 0, select_across=1)
    client.force_login(other)
    confirm(client, MESSAGES, question)
    assert statuses() == "EE"
    for nonsense in ("x", "-1", "9" * 30, "²"):
        ask(client, MESSAGES, "resend", 0, confirmed=nonsense)
    assert statuses() == "EE"


def test_questions_that_nobody_answers_are_forgotten_after_a_day(errored):
    errored(2)
    old = bulk_actions.prepare("resend", Transmission.objects.all())
    BulkAction.objects.update(created=now() - timedelta(days=2))
    new = bulk_actions.prepare("resend", Transmission.objects.all())
    assert list(BulkAction.objects.all()) == [new]
    assert not BulkActionChunk.objects.filter(action=old.pk).exists()


# Lost on the way


@pytest.mark.usefixtures("chunks_of_two")
def test_one_whose_task_was_lost_is_found_by_recovery(worker, errored, calls):
    errored(5)
    with worker.commit():
        action = act_on("resend", Transmission.objects.all())
    worker.take()  # and the broker forgets it
    assert recover().bulk_actions == 0
    BulkAction.objects.update(updated=now() - timedelta(seconds=STALLED + 1))
    assert recover(dry_run=True).bulk_actions == 1
    assert recover().bulk_actions == 1
    worker.work()
    action.refresh_from_db()
    assert in_words(action) == ("done", 5, 5, 5)
    assert (statuses(), len(calls)) == ("SSSSS", 5)


@pytest.mark.usefixtures("chunks_of_two")
def test_copies_of_its_task_do_nothing_twice(worker, errored, calls):
    errored(6)
    with worker.commit():
        action = act_on("resend", Transmission.objects.all())
    for _ in range(3):
        doorbells.publish_bulk_action(action.pk)
    doorbells.publish_bulk_action(action.pk + 1)
    worker.work()
    assert (statuses(), len(calls)) == ("S" * 6, 6)


def test_two_for_the_same_rows_send_once(worker, errored, calls):
    errored(4)
    two = [bulk_actions.prepare("resend", Transmission.objects.all()) for _ in range(2)]
    with worker.commit():
        for action in two:
            bulk_actions.start(action)
    worker.work()
    assert [action.changed for action in two] == [4, 0]
    assert (statuses(), len(calls)) == ("SSSS", 4)


def test_a_broker_that_is_away_is_asked_once_for_many_inbound_messages(
    worker, failed_inbound, monkeypatch, caplog
):
    failed_inbound(20)

    def refuse(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr("rapidsms_db_router.worker.publisher.Publisher.publish", refuse)
    with worker.commit():
        action = act_on("reprocess", Message.objects.all())
    assert in_words(action) == ("done", 20, 20, 20)
    failures = [line for line in caplog.messages if line.startswith("publishing_failed")]
    assert len(failures) == 1
    assert set(Message.objects.values_list("status", flat=True)) == {"Q"}


# Signals


def test_what_is_cancelled_or_has_expired_is_told(people, worker):
    told = []

    def receiver(signal, **named):
        told.append(named)

    signals.transmissions_errored.connect(receiver)
    try:
        with worker.commit():
            send("one", people(2))
            send("two", people(1))
        with worker.commit():
            act_on("cancel", Message.objects.all())
    finally:
        signals.transmissions_errored.disconnect(receiver)
    assert [(each["message"].text, len(each["transmission_ids"])) for each in told] == [
        ("one", 2),
        ("two", 1),
    ]
    for each in told:
        assert (each["error"], each["next_try"]) == ("cancelled", None)
        assert (each["backend_name"], each["message"].status) == ("phones", "E")


# Commands


def run(name, capsys, *arguments):
    call_command(name, *arguments)
    return capsys.readouterr().out.splitlines()


def test_the_command_sends_again_what_its_filters_choose(worker, people, errored, capsys, calls):
    errored(3, error="no credit left")
    errored(2, error="unknown number")
    with worker.commit():
        assert run("resend_messages", capsys, "--error", "credit", "--dry-run") == [
            "3 errored transmissions will be sent again. Nothing is changed now."
        ]
        assert statuses() == "EEEEE"
        assert not BulkAction.objects.exists()
        assert run("resend_messages", capsys, "--error", "credit") == [
            "3 errored transmissions will be sent again.",
            "Done: 3 of 3.",
        ]
    worker.work()
    assert (statuses(), len(calls)) == ("SSSEE", 3)
    assert BulkAction.objects.get().requested_by == f"manage.py resend_messages ({getuser()})"


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["--all"], "ABCD"),
        (["--backend", "phones"], "ABC"),
        (["--backend", "radios", "phones"], "ABCD"),
        (["--since", "2026-07-02"], "BCD"),
        (["--until", "2026-07-02"], "A"),
        (["--since", "2026-07-02", "--until", "2026-07-03T00:00Z"], "B"),
        (["--since", "2026-07-03T02:00+02:00", "--backend", "phones"], "C"),
        (["--message", "A", "D"], "AD"),
        (["--message", "999999999999"], ""),
        (["--error", "of D"], "D"),
    ],
    ids=" ".join,
)
def test_the_filters(people, capsys, installed_backends, arguments, chosen):
    installed_backends["radios"] = installed_backends["phones"]
    texts = {}
    for number, text in enumerate("ABCD"):
        to = people(1, "radios" if text == "D" else "phones")[0]
        date = now().replace(year=2026, month=7, day=min(1 + number, 3), hour=12)
        message = Message.objects.create(direction="O", text=text, status="E", date=date)
        message.transmissions.create(connection=to, status="E", date=date, error=f"of {text}")
        texts[text] = str(message.pk)
    arguments = [texts.get(argument, argument) for argument in arguments]
    (line,) = run("resend_messages", capsys, "--dry-run", *arguments)
    assert line.startswith(f"{len(chosen)} ")
    call_command("resend_messages", *arguments)
    moved = Message.objects.exclude(status="E").order_by("pk")
    assert "".join(moved.values_list("text", flat=True)) == chosen


def test_the_commands_reprocess_and_cancel(worker, people, failed_inbound, capsys, received):
    failed_inbound(2)
    with worker.commit():
        send("news", people(3))
    worker.take()
    assert run("cancel_messages", capsys, "--backend", "phones") == [
        "3 transmissions will be cancelled.",
        "Done: 3 of 3.",
    ]
    with worker.commit():
        assert run("reprocess_messages", capsys, "--error", "raised")[1] == "Done: 2 of 2."
    worker.work()
    assert len(received) == 2
    assert set(Message.objects.filter(direction="I").values_list("status", flat=True)) == {"R"}


@pytest.mark.usefixtures("chunks_of_two")
def test_the_command_ends_in_order_when_it_is_interrupted(errored, monkeypatch):
    errored(5)
    chunk = bulk_actions._do_chunk

    def interrupted(action_id):
        more = chunk(action_id)
        if BulkAction.objects.get(pk=action_id).handled == 4:
            raise KeyboardInterrupt
        return more

    monkeypatch.setattr(bulk_actions, "_do_chunk", interrupted)
    with pytest.raises(CommandError, match="Stopped after 4 of 5; the others are as before"):
        call_command("resend_messages", "--all")
    assert in_words(BulkAction.objects.get()) == ("stopped", 5, 4, 4)
    assert statuses() == "SSSSE"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--all or at least one filter"),
        (["--all", "--backend", "phones"], "--all or at least one filter"),
        (["--backend", "nobody"], "no backend 'nobody'; there are: phones."),
        (["--since", "yesterday"], "--since 'yesterday' is no date"),
        (["--until", "2026-02-30"], "--until '2026-02-30' is no date"),
        (["--since", "2026-07-02", "--until", "2026-07-02"], "is not before --until 2026-07-02"),
        (["--message", "1", "12x"], "--message '12x' is no id"),
        (["--message", "-1"], "--message"),
        (["--error", ""], "--error '' is no text"),
        (["--error", "a\0b"], r"--error 'a\\x00b' is no text"),
    ],
)
@pytest.mark.usefixtures("person")
def test_values_that_make_no_sense_are_named(arguments, named):
    with pytest.raises(CommandError, match=named):
        call_command("resend_messages", *arguments)
