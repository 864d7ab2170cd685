"""What ``check --deploy`` says of who may post, and of who may read the broker's files."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from django.core.checks import run_checks
from django.urls import include, path
from rapidsms.backends.http.views import GenericHttpBackendView
from rapidsms.backends.kannel.views import DeliveryReportView as RapidsmsReportView

from rapidsms_db_router.checks.settings import ID
from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView
from rapidsms_db_router.gateways.kannel.views import DeliveryReportView, KannelBackendView

#: What the views for any gateway cannot do without.
INBOUND = {"backend_name": "phones"}
REPORT = {"backend_name": "phones", "id": "id", "outcomes": {"ok": "delivered"}}
KANNEL = {"ENGINE": "rapidsms_db_router.gateways.kannel.KannelBackend"}


def found(*, deploy=True):
    """Return the ids of what our checks of security say, and where."""
    said = run_checks(tags=["security"], include_deployment_checks=deploy)
    return [(each.id.removeprefix(ID), each.msg) for each in said if each.id.startswith(ID)]


@pytest.fixture
def urls(settings):
    """A function that makes these views all that the project has."""

    def urls(*views):
        module = ModuleType("urls_of_a_test")
        module.urlpatterns = [
            path("sms/", include([path(f"{number}/", view) for number, view in enumerate(views)]))
        ]
        sys.modules[module.__name__] = module
        settings.ROOT_URLCONF = module.__name__

    yield urls
    sys.modules.pop("urls_of_a_test", None)


@pytest.mark.parametrize(
    ("class_", "arguments"),
    [(KannelBackendView, INBOUND), (HttpInboundView, INBOUND), (HttpReportView, REPORT)],
)
def test_a_view_that_lets_everybody_in_is_named_by_its_route(urls, class_, arguments):
    urls(class_.as_view(secret="long-secret", **arguments), class_.as_view(**arguments))
    assert [id_ for id_, _ in found()] == ["W050"]
    assert class_.__name__ in found()[0][1] and "'sms/1/'" in found()[0][1]
    assert found(deploy=False) == []


@pytest.mark.parametrize("class_", [GenericHttpBackendView, RapidsmsReportView])
def test_a_view_of_rapidsms_is_named(urls, class_):
    urls(class_.as_view())
    assert [id_ for id_, _ in found()] == ["W051"]


@pytest.mark.parametrize(
    ("backend", "arguments", "expected"),
    [
        (KANNEL, {}, []),
        (KANNEL, {"signed": False}, ["W050"]),
        (KANNEL, {"signed": False, "secret": "long-secret"}, []),
        ({"ENGINE": "rapidsms.backends.kannel.KannelBackend"}, {}, ["W050"]),
        ({"ENGINE": "rapidsms.backends.kannel.KannelBackend"}, {"networks": "10.0.0.0/8"}, []),
    ],
)
def test_reports_that_have_to_be_signed_need_no_other_guard(
    urls, settings, backend, arguments, expected
):
    settings.INSTALLED_BACKENDS = {"kannel": backend}
    urls(DeliveryReportView.as_view(**arguments))
    assert [id_ for id_, _ in found()] == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"networks": "127.0.0.1"}, ["W052"]),
        ({"networks": ["10.0.0.0/8", "::1"]}, ["W052"]),
        ({"networks": "127.0.0.1", "trusted_proxies": "127.0.0.1"}, []),
        ({"networks": "10.0.0.0/8"}, []),
    ],
)
def test_this_machine_is_everybody_behind_a_proxy(urls, arguments, expected):
    urls(HttpInboundView.as_view(**INBOUND, **arguments))
    assert [id_ for id_, _ in found()] == expected


def test_urls_that_cannot_be_loaded_are_for_other_checks(settings):
    settings.ROOT_URLCONF = "no.such.module"
    assert found() == []


@pytest.mark.parametrize(("mode", "expected"), [(0o755, ["W053"]), (0o770, ["W053"]), (0o700, [])])
def test_a_folder_of_tasks_is_for_one_user(urls, celery_setting, tmp_path, mode, expected):
    urls()
    tmp_path.chmod(mode)
    celery_setting("broker_url", "filesystem://")
    celery_setting(
        "broker_transport_options", {"data_folder_in": tmp_path, "data_folder_out": tmp_path}
    )
    assert [id_ for id_, _ in found()] == expected
