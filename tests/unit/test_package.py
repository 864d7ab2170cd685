"""The names a project uses."""

import importlib
import threading

import pytest
from celery import current_app
from django.apps import apps
from rapidsms.models import Connection

import rapidsms_db_router
from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.models import Message


def test_the_router_is_had_from_the_package():
    from rapidsms_db_router.router import DatabaseRouter

    assert rapidsms_db_router.DatabaseRouter is DatabaseRouter


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'NoSuchRouter'"):
        rapidsms_db_router.NoSuchRouter  # noqa: B018


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("rapidsms_db_router", ["DatabaseRouter", "__version__"]),
        ("rapidsms_db_router.router", ["DatabaseRouter"]),
        ("rapidsms_db_router.models", ["Message", "Transmission"]),
        ("rapidsms_db_router.tasks", ["receive_async", "send_transmissions"]),
        ("rapidsms_db_router.tasks", ["recover_messages", "record_delivery_reports"]),
        ("rapidsms_db_router.admin", ["MessageAdmin", "TransmissionAdmin"]),
        ("rapidsms_db_router.errors", ["BackendNotConfigured", "InvalidConnection", "RetryLater"]),
        ("rapidsms_db_router.errors", ["PermanentSendingError", "OutcomeUnknown"]),
        ("rapidsms_db_router.signals", ["message_processed", "transmissions_sent"]),
        ("rapidsms_db_router.signals", ["transmissions_errored", "transmissions_delivered"]),
        ("rapidsms_db_router.signals", ["delivery_report"]),
        ("rapidsms_db_router.choices", ["Direction", "Status", "Outcome"]),
        ("rapidsms_db_router.reports", ["record"]),
        ("rapidsms_db_router.management.commands.recover_messages", ["Command"]),
        ("rapidsms_db_router.management.commands.backends", ["Command"]),
    ],
)
def test_names_are_where_projects_import_them_from(module, names):
    for name in names:
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("class_", "names"),
    [
        (DatabaseRouter, ["queue_message", "new_incoming_message", "receive_incoming"]),
        (DatabaseRouter, ["group_transmissions", "backend_preparation", "create_message_from_dbm"]),
        (Message, ["set_status", "transmissions", "responses", "get_status_display"]),
        (Connection, ["transmissions"]),
    ],
)
def test_classes_have_the_names_that_projects_use(class_, names):
    for name in names:
        assert hasattr(class_, name)


@pytest.mark.parametrize("name", ["app", "settings", "handlers"])
def test_the_package_has_no_module_that_rapidsms_or_djappsettings_would_load(name):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"rapidsms_db_router.{name}")


def test_the_tasks_have_the_names_by_which_they_are_in_brokers():
    names = {
        "receive_async",
        "record_delivery_reports",
        "recover_messages",
        "run_bulk_action",
        "send_transmissions",
    }
    ours = {name for name in current_app.tasks if name.startswith("rapidsms_db_router.")}
    assert ours == {f"rapidsms_db_router.tasks.{name}" for name in names}


def test_the_app_label_is_the_package_name():
    assert apps.get_app_config("rapidsms_db_router").name == "rapidsms_db_router"


def test_all_threads_of_the_tests_have_one_celery_app():
    # a module of the tests that creates another when it is imported changes the main thread's alone
    others = []
    thread = threading.Thread(target=lambda: others.append(current_app._get_current_object()))
    thread.start()
    thread.join()
    assert others == [current_app._get_current_object()]
