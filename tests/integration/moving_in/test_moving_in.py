"""Old messages come over: none is lost, none comes twice, and what they say is kept."""

from __future__ import annotations

import datetime
import re
from importlib import import_module
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from rapidsms.router import receive, send

from rapidsms_db_router import reports
from rapidsms_db_router.choices import Outcome
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import segments
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.moving_in import copying, keys, moving
from rapidsms_db_router.moving_in.dialects import dialect
from rapidsms_db_router.moving_in.mapping import FAILED_BEFORE
from rapidsms_db_router.moving_in.unfinished import LEFT_BEHIND
from rapidsms_db_router.operations import listing
from rapidsms_db_router.operations.listing import Wanted
from rapidsms_db_router.operations.models import Hour
from rapidsms_db_router.outbound.failure import OUTCOME_UNKNOWN
from tests.integration.operations.test_tallies import fill_all

HOUR, YEAR = datetime.timedelta(hours=1), datetime.timedelta(days=365)


def here(old_message) -> tuple[str, str]:
    """Return a message's status here, and the letters of its transmissions."""
    message = Message.objects.get(pk=old_message.pk)
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status, "".join(rows)


@pytest.mark.parametrize(
    ("direction", "old_letters", "status", "letters"),
    [
        ("I", "R", "R", "R"),
        ("I", "E", "E", "E"),
        ("I", "Q", "Q", "Q"),
        ("O", "S", "S", "S"),
        ("O", "SD", "S", "SD"),
        ("O", "DD", "D", "DD"),
        ("O", "SE", "E", "SE"),
        ("O", "QS", "Q", "QS"),
        ("O", "PS", "Q", "QS"),
        ("O", "PE", "E", "QE"),
        ("O", "XS", "E", "ES"),
        ("O", "", "E", ""),
    ],
)
def test_each_status_has_its_place(old, move, direction, old_letters, status, letters):
    message = old.store(old_letters, direction, status="P")
    assert "All old rows are here." in move()
    assert here(message) == (status, letters)
    # RapidSMS's own rule gives the same, but for what is held: no worker knows of that
    assert Message.objects.get(pk=message.pk).set_status() == (
        "P" if status == "Q" and direction == "O" else status
    )
    assert not Batch.objects.exists()


def test_what_a_row_says_is_kept(old, move):
    question = old.store("R", "I", text="où?", external_id="gw-1")
    answer = old.store("S", in_response_to=question, text="x" * 200, sent=now() - YEAR)
    move()
    message = Message.objects.get(pk=answer.pk)
    for name in ("direction", "text", "external_id", "date", "updated", "sent", "delivered"):
        assert getattr(message, name) == getattr(answer, name)
    assert (message.in_response_to_id, message.segments, message.error) == (question.pk, 2, "")
    assert message.fields == {}
    assert message.recover_at is None
    row, was = message.transmissions.get(), old.transmissions.get(message=answer)
    for name in ("pk", "connection_id", "date", "updated", "sent", "delivered"):
        assert getattr(row, name) == getattr(was, name)
    assert (row.attempts, row.next_try, row.external_id) == (1, None, None)
    assert Message.objects.get(pk=question.pk).external_id == "gw-1"


def test_old_failures_are_given_up_and_say_why(old, move):
    inbound, outbound, empty = old.store("E", "I"), old.store("EES"), old.store("")
    move()
    assert Message.objects.get(pk=inbound.pk).error == FAILED_BEFORE
    message = Message.objects.get(pk=outbound.pk)
    assert (message.error, message.given_up) == ("2 of 3 transmissions errored", True)
    assert {row.error for row in message.transmissions.filter(status="E")} == {FAILED_BEFORE}
    assert Message.objects.get(pk=empty.pk).error == "no recipients"


def test_segments_are_counted_as_for_new_messages(old, move):
    texts = ["a" * 36, "é" * 161, "[" * 81, "ሰ" * 71, "😀" * 36, "x" * 70]
    messages = {old.store("S", text=text).pk: text for text in texts}
    move()
    for message in Message.objects.all():
        assert message.segments == segments.count(messages[message.pk])


def test_a_second_run_changes_nothing(old, move):
    for letters in ("R", "S", "QPE"):
        old.store(letters)
    move()
    before = list(Transmission.objects.order_by("pk").values())
    assert "0 transmissions copied" in move()
    assert list(Transmission.objects.order_by("pk").values()) == before
    assert "0 of 5" not in move("--verify")


def test_new_messages_have_keys_far_above_the_old_ones(old, move, person):
    old.store("S")
    move()
    sent = send("news", [person]).database_message
    assert sent.pk > keys.GAP
    # and the old router goes on below them
    later = old.store("S")
    assert later.pk < keys.GAP
    move()
    assert here(later) == ("S", "S")
    assert Message.objects.count() == 3


def test_the_first_migration_leaves_room_for_old_rows(old, person):
    old.store("S")
    initial = import_module("rapidsms_db_router.migrations.0001_initial")
    with connection.schema_editor() as editor:
        initial.begin_above_old_rows(None, editor)
    message = send("news", [person]).database_message
    assert message.pk > keys.GAP
    assert message.transmissions.get().pk > keys.GAP


def test_a_run_that_is_interrupted_is_gone_on_with(old, move, monkeypatch):
    for _ in range(3):
        old.store("S")
    monkeypatch.setattr(type(dialect()), "chunk", 1)

    def interrupted(table, span):
        if span.first == 2:
            raise KeyboardInterrupt
        return copying.copy(table, span)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "copy", interrupted)
        with pytest.raises(CommandError, match="Stopped; the next run goes on from here"):
            move()
    assert Message.objects.count() == 1
    assert "2 messages copied" in move()


def test_a_terminal_has_a_bar(old, monkeypatch):
    old.store("SS")
    said = StringIO()
    monkeypatch.setattr(said, "isatty", lambda: True)
    call_command("import_router_db", stdout=said)
    assert f"[{'#' * 40}] 3 of 3 rows copied" in said.getvalue()


def test_rows_of_our_own_with_the_same_keys_are_refused(old, move, person):
    Message.objects.create(direction="O", text="ours")
    old.store("S")
    with pytest.raises(CommandError, match="primary key"):
        move()
    assert Message.objects.get().text == "ours"


def test_without_old_tables_it_says_so(transactional_db, move):
    with pytest.raises(CommandError, match="has no table db_message"):
        move()


def test_a_dry_run_counts_and_changes_nothing(old, move):
    old.store("SSQ")
    said = move("--dry-run")
    assert "1 messages in db_message" in said
    assert "3 transmissions in db_transmission: Q 1, S 2" in said
    assert not Message.objects.exists()


def test_a_late_delivery_report_finds_an_old_message(old, move):
    message = old.store("S")
    move()
    identity = old.connections[0].identity
    assert reports.record(Outcome.DELIVERED, message_id=message.pk, identity=identity)
    assert here(message) == ("D", "D")
    # the old row is as it was, and the copy stays what it has become
    move()
    assert here(message) == ("D", "D")
    assert old.transmissions.get().status == "S"


# What the old router changes between two runs


def test_what_the_old_router_goes_on_with_is_followed(old, move):
    held, retried, delivered = old.store("QP"), old.store("E"), old.store("S")
    question, failing = old.store("Q", "I"), old.store("Q", "I")
    unknown = old.store("P")
    move()
    moment = now()
    old.transmissions.filter(message=held).update(status="S", sent=moment)
    old.transmissions.filter(message=retried).update(status="S", sent=moment)
    old.transmissions.filter(message=delivered).update(status="D", delivered=moment)
    old.transmissions.filter(message=question).update(status="R")
    old.transmissions.filter(message=failing).update(status="E")
    old.messages.filter(pk=unknown.pk).update(in_response_to=question.pk)
    said = move()
    assert here(held) == ("S", "SS")
    assert here(retried) == ("S", "S")
    assert here(delivered) == ("D", "D")
    assert here(question) == ("R", "R")
    assert here(failing) == ("E", "E")
    assert here(unknown) == ("Q", "Q")
    assert Message.objects.get(pk=failing.pk).error == FAILED_BEFORE
    assert Message.objects.get(pk=unknown.pk).in_response_to_id == question.pk
    assert "rows followed" in said
    assert Transmission.objects.filter(message=held.pk, sent=moment).count() == 2
    assert "rows followed" not in move()


def test_what_has_moved_on_here_is_left_alone(old, move):
    sent, cancelled = old.store("Q", age=HOUR), old.store("Q", age=HOUR)
    move()
    Transmission.objects.filter(message=cancelled.pk).update(status="E", error="cancelled")
    Transmission.objects.filter(message=sent.pk).update(status="S")
    old.transmissions.filter(message=sent).update(status="E")
    move()
    assert here(sent)[1] == "S"
    assert here(cancelled)[1] == "E"


# What the old router has not finished


def test_what_is_unfinished_is_held_until_told(old, move, worker):
    message, question = old.store("QP", age=HOUR), old.store("Q", "I", age=HOUR)
    assert "2 unfinished messages are held" in move()
    worker.work()
    worker.make_due()
    assert here(message) == ("Q", "QQ")
    assert here(question) == ("Q", "Q")
    assert not worker.take()


def test_what_is_held_is_sent_once(old, move, worker, calls, received):
    message, question = old.store("QPS", age=HOUR), old.store("Q", "I", age=HOUR, text="old")
    move()
    assert "3 transmissions queued" in move("--unfinished", "send")
    worker.work()
    identities = sorted(identity for call in calls for identity in call.identities)
    assert identities == sorted(each.identity for each in old.connections[:2])
    assert here(message) == ("S", "SSS")
    assert here(question) == ("R", "R")
    assert [msg.text for msg in received] == ["old"]
    move("--unfinished", "send")
    worker.work()
    assert len([identity for call in calls for identity in call.identities]) == 2


def test_what_is_old_is_not_sent(old, move, worker, calls):
    stale, fresh = old.store("Q", age=3 * HOUR), old.store("Q", age=HOUR)
    since = (now() - 2 * HOUR).isoformat()
    move("--unfinished", "send", "--since", since)
    worker.work()
    assert here(stale) == ("E", "E")
    assert Transmission.objects.get(message=stale.pk).error == LEFT_BEHIND
    assert here(fresh) == ("S", "S")
    assert len(calls) == 1


def test_what_is_older_than_a_day_is_not_sent_by_default(old, move, worker, calls):
    message = old.store("QP")
    move("--unfinished", "send")
    worker.work()
    assert here(message) == ("E", "EE")
    assert calls == []


def test_what_may_have_been_sent_is_not_sent_again_where_that_is_forbidden(
    old, move, worker, calls, installed_backends
):
    installed_backends["phones"]["router.db.after_crash"] = "error"
    message = old.store("PQ", age=HOUR)
    move("--unfinished", "send")
    worker.work()
    assert here(message) == ("E", "ES")
    assert Transmission.objects.get(message=message.pk, status="E").error == OUTCOME_UNKNOWN
    assert [call.identities for call in calls] == [[old.connections[1].identity]]


def test_what_is_held_can_be_marked(old, move, worker, calls):
    message, question = old.store("QS"), old.store("Q", "I")
    move("--unfinished", "mark")
    worker.work()
    assert here(message) == ("E", "ES")
    assert here(question) == ("E", "E")
    assert Message.objects.get(pk=question.pk).error == LEFT_BEHIND
    assert Message.objects.get(pk=message.pk).given_up
    assert calls == []


def test_while_the_old_app_is_installed_nothing_is_sent(old, move, monkeypatch):
    old.store("Q", age=HOUR)
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name == "rapidsms.router.db" or is_installed(name)
    )
    for choice in ("send", "mark"):
        with pytest.raises(CommandError, match="Stop its workers"):
            move("--unfinished", choice)
    assert not Message.objects.exists()


# What the old tables hold, and ours do not


def test_the_same_connection_twice_is_one_transmission(old, move):
    message = old.store("S")
    old.transmissions.create(message=message, connection_id=old.connections[0].pk, status="S")
    said = move()
    assert here(message) == ("S", "S")
    assert "1 transmissions are not here: another one of the same" in said
    assert "All old rows are here." in move()


def test_what_no_column_holds_is_cleaned_and_counted(old, move):
    message = old.store("SS")
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "UPDATE db_message SET text = 'a' || char(0) || 'b', date = 'never',"
                " sent = '2026-02-30 10:00:00', external_id = %s",
                ["9" * 2000],
            )
        elif connection.vendor == "mysql":
            cursor.execute("SET sql_mode = ''")
            cursor.execute(
                "UPDATE db_message SET text = CONCAT('a', CHAR(0), 'b'),"
                " date = '0000-00-00', sent = '0000-00-00'"
            )
            cursor.execute("SET sql_mode = 'STRICT_TRANS_TABLES'")
        else:
            cursor.execute("UPDATE db_message SET date = '-infinity', sent = '20000-01-01'")
    said = move()
    assert "1 messages were cleaned or cut" in said
    moved = Message.objects.get(pk=message.pk)
    if connection.vendor != "postgresql":
        assert moved.text == "a\N{REPLACEMENT CHARACTER}b"
    assert moved.date == message.updated
    assert moved.sent is not None
    assert len(moved.external_id) <= 1024


def test_a_row_that_cannot_come_is_left_behind_alone(old, move, caplog):
    if connection.vendor != "sqlite":
        pytest.skip("refuses a row by a trigger of SQLite")
    first, orphan, last = old.store("S"), old.store("S"), old.store("S")
    row = old.transmissions.get(message=orphan)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TRIGGER refusing BEFORE INSERT ON {Transmission._meta.db_table}"
            f" WHEN NEW.id = {row.pk} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with pytest.raises(CommandError, match="1 old rows are not here"):
        move()
    assert here(first) == here(last) == ("S", "S")
    assert here(orphan) == ("E", "")
    assert f"row_left_behind table=db_transmission id={row.pk}" in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refusing")
    old.transmissions.filter(pk=row.pk).delete()


def test_a_gateway_that_posts_again_after_the_move_is_recognised(old, move):
    old.store("R", "I", age=HOUR, text="hello", external_id="gw-1")
    move()
    fields = {"external_id": "gw-1"}
    receive("hello", old.connections[0], fields=fields)
    assert Message.objects.count() == 1
    receive("hello", old.connections[1], fields=fields)
    assert Message.objects.count() > 1


def test_the_comparison_finds_what_differs(old, move):
    message = old.store("SS")
    move()
    Message.objects.filter(pk=message.pk).update(text="other")
    with pytest.raises(CommandError, match="0 old rows are not here, and 1 are in groups"):
        move("--verify")
    Transmission.objects.filter(message=message.pk).delete()
    with pytest.raises(CommandError, match="2 old rows are not here"):
        move("--verify")
    assert not Transmission.objects.exists()


def test_many_chunks_come_over(old, move, monkeypatch):
    monkeypatch.setattr(type(dialect()), "chunk", 3)
    monkeypatch.setattr(type(dialect()), "compared", 4)
    for number in range(20):
        old.store("SDE"[: number % 4])
    old.messages.filter(pk__in=[3, 4, 5, 6, 7]).delete()
    said = move()
    assert re.search(r"15 messages copied", said)
    assert Transmission.objects.count() == old.transmissions.count()


# The pages of the operations app


def test_old_messages_are_listed_and_found(old, move, person):
    old.store("S", text="where is my result")
    move()
    send("news", [person])
    first = listing.page(Wanted())
    assert [row.message.text for row in first.rows] == ["news"]
    second = listing.page(Wanted(), first.before)
    assert [row.message.text for row in second.rows] == ["where is my result"]
    assert second.before is None
    for term in ("my result", old.connections[0].identity):
        found = listing.page(Wanted(search=term)).rows
        assert "where is my result" in [row.message.text for row in found]


def test_tallies_are_filled_with_old_messages(old, move, person):
    for days in (900, 400, 30, 2):
        old.store("SD", age=datetime.timedelta(days=days))
    old.store("E", age=2 * HOUR)
    keys.begin_above(connection)
    send("news", [person])
    fill_all()
    # a move that ends in the middle: the tallies are filled before it is run again
    moving.move({"db_message": 2, "db_transmission": 4}, lambda rows: None)
    fill_all()
    move()
    fill_all()
    assert Hour.objects.count() == 6
    for hour in Hour.objects.all():
        counted = sum(hour.tallies.values_list("transmissions", flat=True))
        of_hour = Transmission.objects.filter(date__gte=hour.start, date__lt=hour.start + HOUR)
        assert counted == of_hour.count()
