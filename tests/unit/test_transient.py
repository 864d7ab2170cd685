"""Which database errors pass, told from errors of real databases; and how long to insist."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from django.db import (
    DatabaseError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)

from rapidsms_db_router.db.transient import insist, is_transient
from rapidsms_db_router.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


def error_of(sql, using=connection):
    """Return what the database raises."""
    with pytest.raises(DatabaseError) as raised, using.cursor() as cursor:
        cursor.execute(sql)
    return raised.value


def another_connection(**options):
    """Return a connection of its own, closed at the end of the block."""
    other = connection.copy()
    other.settings_dict = {**other.settings_dict, **options}
    return closing(other)


def only_on(vendor):
    if connection.vendor != vendor:
        pytest.skip(f"about {vendor}")


@pytest.mark.parametrize(
    ("state", "passes"),
    [
        ("08006", True),  # connection failure
        ("40001", True),  # serialization failure
        ("40P01", True),  # deadlock
        ("55P03", True),  # lock not available
        ("57P01", True),  # admin shutdown
        ("57P03", True),  # cannot connect now: it starts
        ("53100", True),  # disk full
        ("53300", True),  # too many connections
        ("25006", True),  # read-only: a standby, or a failover under way
        ("25P02", False),  # in a failed transaction
        ("53200", False),  # out of memory
        ("58030", False),  # I/O error
        ("22001", False),  # too long
        ("23505", False),  # not unique
        ("42P01", False),  # no such table
    ],
)
def test_what_passes_on_postgresql(state, passes):
    only_on("postgresql")
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'text' USING ERRCODE = '{state}'; END $$"
    assert is_transient(error_of(raising)) is passes


def test_a_read_only_postgresql_passes():
    only_on("postgresql")
    with another_connection() as other:
        with other.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        error = error_of("DELETE FROM rapidsms_db_router_message", other)
    # it is no OperationalError
    assert isinstance(error, InternalError)
    assert is_transient(error)


def test_a_connection_cut_by_postgresql_passes():
    only_on("postgresql")
    with another_connection() as other:
        assert is_transient(error_of("SELECT pg_terminate_backend(pg_backend_pid())", other))
        assert is_transient(error_of("SELECT 1", other))


@pytest.mark.parametrize(
    ("number", "passes"),
    [
        (1205, True),  # lock wait timeout
        (1213, True),  # deadlock
        (1053, True),  # shutdown
        (1021, True),  # disk full
        (1114, True),  # table full
        (1020, True),  # changed meanwhile
        (1040, True),  # too many connections
        (1203, True),  # too many connections of the user
        (1047, True),  # the node of a cluster is not ready
        (1290, True),  # the server is read-only
        (1792, True),  # the transaction is read-only
        (1836, True),  # read-only mode
        (1045, False),  # access denied
        (1062, False),  # duplicate key
        (1146, False),  # no such table
    ],
)
def test_what_passes_on_mariadb(number, passes):
    only_on("mysql")
    raising = f"SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'text'"
    assert is_transient(error_of(raising)) is passes


def test_a_read_only_transaction_of_mariadb_passes():
    only_on("mysql")
    with another_connection() as other:
        with other.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
        assert is_transient(error_of("DELETE FROM rapidsms_db_router_message", other))


def test_a_connection_cut_by_mariadb_passes():
    only_on("mysql")
    with another_connection() as other:
        other.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("KILL %s", [other.connection.thread_id()])
        assert is_transient(error_of("SELECT 1", other))


def test_a_server_that_does_not_answer_passes():
    if connection.vendor == "sqlite":
        pytest.skip("has no server")
    with another_connection(PORT="1") as nowhere:
        assert is_transient(error_of("SELECT 1", nowhere))


def test_a_locked_sqlite_database_passes():
    only_on("sqlite")
    with another_connection(OPTIONS={"timeout": 0}) as other:
        with transaction.atomic():
            Message.objects.create(text="text")
            error = error_of("DELETE FROM rapidsms_db_router_message", other)
        assert is_transient(error)


def test_what_does_not_pass_on_sqlite():
    only_on("sqlite")
    assert not is_transient(error_of("SELECT nothing FROM no_such_table"))
    with another_connection(OPTIONS={"timeout": 0}) as other:
        with other.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 1")
        assert not is_transient(error_of("DELETE FROM rapidsms_db_router_message", other))


@pytest.mark.parametrize(
    ("error", "passes"),
    [(InterfaceError("connection already closed"), True), (ValueError("locked"), False)],
)
def test_whatever_the_database(error, passes):
    assert is_transient(error) is passes


class Refusing:
    """Refuses the first calls."""

    def __init__(self, times, error):
        self.left = times
        self.calls = 0
        self.error = error

    def __call__(self):
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "written"


LOCKED = InterfaceError("connection already closed")


@pytest.fixture
def pauses(monkeypatch):
    """How long ``insist`` has paused, each time; no time passes, but for other threads."""
    pauses, mine, sleep = [], threading.get_ident(), time.sleep

    def pause(seconds):
        record = pauses.append if threading.get_ident() == mine else sleep
        record(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    return pauses


def test_insist_writes_as_soon_as_the_database_lets_it(pauses):
    write = Refusing(8, LOCKED)
    assert insist(write) == "written"
    assert write.calls == 9
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_insist_gives_up_inside_a_transaction_that_is_not_its_own(pauses):
    write = Refusing(1, LOCKED)
    with pytest.raises(InterfaceError), transaction.atomic():
        insist(write)
    assert write.calls == 1
    assert pauses == []


def test_insist_gives_up_on_what_does_not_pass(pauses):
    # no connection or query made it, as a driver's would have
    write = Refusing(1, OperationalError(1045, "Access denied"))
    with pytest.raises(OperationalError):
        insist(write)
    assert write.calls == 1


def test_insist_gives_up_in_the_end(pauses):
    write = Refusing(2, LOCKED)
    with pytest.raises(InterfaceError):
        insist(write, patience=0)
    assert write.calls == 1
