"""The names a project uses."""

import importlib

import pytest
from django.apps import apps

import rapidsms_db_router


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
        ("rapidsms_db_router.admin", ["MessageAdmin", "TransmissionAdmin"]),
    ],
)
def test_names_are_where_projects_import_them_from(module, names):
    for name in names:
        assert hasattr(importlib.import_module(module), name)


def test_the_app_label_is_the_package_name():
    assert apps.get_app_config("rapidsms_db_router").name == "rapidsms_db_router"
