"""What is wrong is said at start, under a stable id, with a hint that says what to change."""

from __future__ import annotations

import re
from pathlib import Path

import django
import pytest
from celery import Celery
from django.core.checks import run_checks
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper
from rapidsms.backends.base import BackendBase
from rapidsms.backends.kannel import KannelBackend
from rapidsms.router.blocking import BlockingRouter

from rapidsms_db_router import DatabaseRouter, conf
from rapidsms_db_router.checks import celery, surroundings
from rapidsms_db_router.checks.settings import (
    BACKEND_OPTIONS,
    ID,
    ONE_RECIPIENT,
    OUR_KANNEL_ENGINE,
)
from rapidsms_db_router.checks.surroundings import ROUTER, SQLITE_OPTIONS

RECORDING = "tests.service.backends.RecordingBackend"


@pytest.fixture(autouse=True)
def _backends(installed_backends):
    """There is one, unless the test has others."""


class OwnRouter(DatabaseRouter):
    """A project's own."""


def found():
    """Return what our checks say, by their ids without the prefix."""
    ours = [message for message in run_checks(databases=[]) if message.id.startswith(ID)]
    return {message.id.removeprefix(ID): message for message in ours}


def phones(**options):
    return {"phones": {"ENGINE": RECORDING, **options}}


def test_nothing_is_said_of_sound_settings(settings):
    settings.INSTALLED_BACKENDS = phones()
    assert found() == {}


@pytest.mark.parametrize(
    ("id_", "name", "wrong", "right"),
    [
        ("E001", "DB_ROUTER_DEFAULT_BATCH_SIZE", (0, -1, "200", 1.5, True, None, 2**31), (1, 5000)),
        ("E002", "DB_ROUTER_MAX_RETRIES", (-1, "5", 1.5, False, None), (0, 5)),
        (
            "E003",
            "DB_ROUTER_RETRY_BACKOFF",
            (0, -1, "60", float("inf"), float("nan"), True),
            (0.5, 9),
        ),
        ("E004", "DB_ROUTER_VISIBILITY_TIMEOUT", (0, -1, "600", 1e9, None), (0.5, 600)),
        ("E005", "DB_ROUTER_RECOVERY_INTERVAL", (0, -1, "60", float("nan"), None), (0.5, 60)),
        ("E006", "DB_ROUTER_ATOMIC_RECEIVE", (0, 1, "yes", None), (True, False)),
    ],
)
def test_a_setting_has_a_value_of_its_kind(settings, id_, name, wrong, right):
    for value in wrong:
        setattr(settings, name, value)
        message = found()[id_]
        assert name in message.msg
        assert repr(value) in message.msg
        assert message.hint.startswith("Set it to ")
    for value in right:
        setattr(settings, name, value)
        assert found() == {}


@pytest.mark.parametrize(
    "options",
    [
        {"ENGINE": "tests.service.backends.NoSuchBackend"},
        {"ENGINE": "no.such.module.Backend"},
        {"ENGINE": "nodots"},
        {"ENGINE": ".."},
        {"ENGINE": "tests.service.backends.calls"},
        {"ENGINE": "rapidsms.apps.base.AppBase"},
        {"ENGINE": 5},
        {"ENGINE": BlockingRouter},
        {"ENGINE": None},
        {},
    ],
)
def test_e010_a_backend_can_be_loaded(settings, options):
    settings.INSTALLED_BACKENDS = {"phones": options}
    message = found()["E010"]
    assert "'phones'" in message.msg
    assert "BackendBase" in message.hint


@pytest.mark.parametrize("engine", [RECORDING, BackendBase])
def test_e010_says_nothing_of_a_path_or_class_that_is_there(settings, engine):
    settings.INSTALLED_BACKENDS = {"phones": {"ENGINE": engine}}
    assert found() == {}


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("router.db.batchsize", "router.db.batch_size"),
        ("router.db.Max_Retry", "router.db.max_retries"),
        ("router.db.egaer", "router.db.eager"),
    ],
)
def test_e011_an_unknown_option_of_ours_is_told_with_the_nearest_known(settings, unknown, nearest):
    settings.INSTALLED_BACKENDS = phones(**{unknown: 1})
    message = found()["E011"]
    assert unknown.lower() in message.msg
    assert f"Did you mean {nearest!r}?" in message.hint


def test_e011_says_nothing_of_known_options_and_of_those_that_are_not_ours(settings):
    settings.INSTALLED_BACKENDS = phones(
        **{
            "router.db.eager": False,
            "router.db.batch_size": 50,
            "Router.DB.Max_Retries": 0,
            "router.db.rate": "600/m",
            "router.db.concurrency": 200,
            "router.db.timeout": 0.5,
            "router.db.after_crash": "error",
            "router.db.queue": "gateways",
            "router.celery.eager": True,
            "sendsms_url": "http://127.0.0.1/",
        }
    )
    assert found() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("router.db.batch_size", 0),
        ("router.db.batch_size", "50"),
        ("router.db.eager", "yes"),
        ("router.db.eager", 1),
        ("router.db.max_retries", -1),
        ("router.db.rate", 30),
        ("router.db.rate", "30"),
        ("router.db.rate", "0/s"),
        ("router.db.rate", "-1/s"),
        ("router.db.rate", "1.5/s"),
        ("router.db.rate", "30 / s"),
        ("router.db.rate", "30/d"),
        ("router.db.rate", "10001/s"),
        ("router.db.rate", "36000001/h"),
        ("router.db.concurrency", 0),
        ("router.db.concurrency", "50"),
        ("router.db.concurrency", 1.5),
        ("router.db.concurrency", None),
        ("router.db.timeout", 0),
        ("router.db.timeout", -1),
        ("router.db.timeout", "60"),
        ("router.db.timeout", float("inf")),
        ("router.db.timeout", None),
        ("router.db.after_crash", "retry"),
        ("router.db.after_crash", None),
        ("router.db.queue", ""),
        ("router.db.queue", 1),
    ],
)
def test_e012_an_option_has_a_value_of_its_kind(settings, option, value):
    settings.INSTALLED_BACKENDS = phones(**{option: value})
    message = found()["E012"]
    assert "'phones'" in message.msg
    assert repr(option) in message.msg
    assert repr(value) in message.msg


def test_e011_knows_every_option_that_the_router_reads():
    read = set(re.findall(r'"(router\.db\.\w+)"', Path(conf.__file__).read_text()))
    assert read == set(BACKEND_OPTIONS)


@pytest.mark.parametrize("engine", ONE_RECIPIENT)
@pytest.mark.parametrize("options", [{}, {"ROUTER.DB.BATCH_SIZE": 2}])
def test_w016_an_engine_for_one_recipient_is_given_several(settings, engine, options):
    settings.INSTALLED_BACKENDS = {"mobile": {"ENGINE": engine, **options}}
    message = found()["W016"]
    assert "'mobile'" in message.msg
    assert "'router.db.batch_size' to 1" in message.hint


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "rtwilio.outgoing.TwilioBackend", "router.db.batch_size": 1},
        {"ENGINE": "tests.service.backends.RecordingBackend"},
        {"ENGINE": ["no engine"]},
    ],
)
def test_w016_says_nothing_of_one_recipient_a_call_and_of_other_engines(settings, options):
    settings.INSTALLED_BACKENDS = {"mobile": options}
    assert "W016" not in found()


@pytest.mark.parametrize("way", ["missing", "empty"])
def test_w019_there_is_a_backend(settings, way):
    settings.INSTALLED_BACKENDS = {}
    if way == "missing":
        del settings.INSTALLED_BACKENDS
    message = found()["W019"]
    assert "INSTALLED_BACKENDS is missing or empty" in message.msg
    assert "ENGINE" in message.hint


class PlainKannelBackend(KannelBackend):
    """A project's own, which changes nothing of a request."""


#: RapidSMS's engine for Kannel by both of its names, and a subclass of it.
KANNEL_ENGINES = (
    "rapidsms.backends.kannel.KannelBackend",
    "rapidsms.backends.kannel.outgoing.KannelBackend",
    f"{__name__}.PlainKannelBackend",
)


@pytest.mark.parametrize("engine", KANNEL_ENGINES)
@pytest.mark.parametrize("options", [{}, {"router.db.batch_size": 2}])
def test_w013_kannel_is_given_several_recipients_in_one_call(settings, engine, options):
    settings.INSTALLED_BACKENDS = {"kannel": {"ENGINE": engine, **options}}
    message = found()["W013"]
    assert "'kannel'" in message.msg
    assert "'router.db.batch_size' to 1" in message.hint


@pytest.mark.parametrize("engine", KANNEL_ENGINES)
def test_w013_says_nothing_of_one_recipient_a_call(settings, engine):
    settings.INSTALLED_BACKENDS = {"kannel": {"ENGINE": engine, "router.db.batch_size": 1}}
    assert set(found()) == {"W014"}
    settings.INSTALLED_BACKENDS = {"kannel": {"ENGINE": engine}}
    settings.DB_ROUTER_DEFAULT_BATCH_SIZE = 1
    assert set(found()) == {"W014"}


@pytest.mark.parametrize("engine", KANNEL_ENGINES)
def test_w014_an_engine_that_changes_texts_has_another_in_its_place(settings, engine):
    settings.INSTALLED_BACKENDS = {"kannel": {"ENGINE": engine, "router.db.batch_size": 1}}
    message = found()["W014"]
    assert repr(engine) in message.msg
    assert repr(OUR_KANNEL_ENGINE) in message.hint


@pytest.fixture
def ours(settings):
    """The options of a Kannel backend of this app with which nothing is wrong."""
    options = {
        "ENGINE": OUR_KANNEL_ENGINE,
        "sendsms_url": "https://kannel.example.org:13013/cgi-bin/sendsms",
        "sendsms_params": {"username": "rapidsms", "password": "secret", "from": "100"},
        "delivery_report_url": "http://127.0.0.1:8000",
        "max_parts": 3,
    }
    settings.INSTALLED_BACKENDS = {"kannel": options}
    return options


def test_our_kannel_engine_needs_nothing_more(ours):
    assert found() == {}
    for key in list(ours)[1:]:
        del ours[key]
    assert found() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sendsms_url", ""),
        ("sendsms_url", None),
        ("sendsms_url", "127.0.0.1:13013/cgi-bin/sendsms"),
        ("sendsms_url", "ftp://127.0.0.1/"),
        ("sendsms_url", "http:///cgi-bin/sendsms"),
        ("sendsms_url", "http://127.0.0.1:99999/"),
        ("sendsms_url", "http://127.0.0.1:x/"),
        ("sendsms_url", "http://127.0.0.1/cgi bin"),
        ("delivery_report_url", "example.org"),
        ("delivery_report_url", True),
        ("max_parts", 0),
        ("max_parts", 256),
        ("max_parts", "10"),
        ("max_parts", True),
    ],
)
def test_e014_an_option_of_our_kannel_engine_has_a_value_of_its_kind(ours, option, value):
    ours[option] = value
    message = found()["E014"]
    assert "'kannel'" in message.msg
    assert repr(option) in message.msg
    assert repr(value) in message.msg


def test_e014_shows_no_password(ours):
    ours["sendsms_params"] = [("password", "hidden")]
    message = found()["E014"]
    assert "'sendsms_params'" in message.msg
    assert "list" in message.msg
    assert "hidden" not in message.msg


def test_e015_reports_need_a_url(ours, settings):
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    assert set(found()) == {"E015"}
    del ours["delivery_report_url"]
    assert found() == {}


@pytest.mark.parametrize("option", ["charset", "coding", "encode_errors"])
def test_w015_the_text_decides_about_the_coding(ours, option):
    ours[option] = "utf-8"
    assert option in found()["W015"].msg
    del ours[option]
    ours["sendsms_params"]["coding"] = 2
    assert "sendsms_params['coding']" in found()["W015"].msg


@pytest.mark.parametrize(
    "router", ["rapidsms.router.blocking.BlockingRouter", "no.such.Router", None]
)
def test_w020_rapidsms_router_names_another(settings, router):
    settings.RAPIDSMS_ROUTER = router
    message = found()["W020"]
    assert repr(router) in message.msg
    assert ROUTER in message.hint


def test_w020_takes_a_router_object_of_another_class_for_another_router(settings):
    settings.RAPIDSMS_ROUTER = BlockingRouter(apps=[], backends={})
    assert set(found()) == {"W020"}


@pytest.mark.parametrize(
    "router",
    [
        "rapidsms_db_router.DatabaseRouter",
        "rapidsms_db_router.router.DatabaseRouter",
        f"{__name__}.OwnRouter",
        OwnRouter(apps=[], backends={}),
    ],
    ids=["package", "module", "subclass", "object"],
)
def test_w020_says_nothing_of_our_router_in_any_form(settings, router):
    settings.RAPIDSMS_ROUTER = router
    assert found() == {}


def test_w021_an_app_that_cannot_be_imported(settings, tmp_path, monkeypatch):
    package = tmp_path / "app_that_lacks_something"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, package.name]
    message = found()["W021"]
    assert "no_such_module" in message.msg
    assert f"{package.name}.app" in message.hint


def test_e030_celery_settings_that_celery_cannot_read(monkeypatch):
    app = Celery("mixed", set_as_current=False)
    # the old name of a setting beside the new name of another
    app.config_from_object({"CELERY_ACCEPT_CONTENT": ["json"], "task_always_eager": True})
    monkeypatch.setattr(celery, "current_app", app)
    assert "CELERY_" in found()["E030"].hint


@pytest.mark.parametrize("accepted", [["pickle"], ["yaml", "msgpack"], []])
def test_e031_workers_accept_json(celery_setting, accepted):
    celery_setting("accept_content", accepted)
    assert "CELERY_ACCEPT_CONTENT" in found()["E031"].hint


@pytest.mark.parametrize("accepted", [["json"], ["application/json"], ["pickle", "json"]])
def test_e031_says_nothing_where_json_is_among_what_is_accepted(celery_setting, accepted):
    celery_setting("accept_content", accepted)
    assert found() == {}


@pytest.mark.parametrize(
    "backend", ["django-db", "django-cache", "nosuchbackend://", "no.such:Class"]
)
def test_e032_a_result_backend_that_cannot_be_used(celery_setting, backend):
    celery_setting("result_backend", backend)
    assert "CELERY_RESULT_BACKEND" in found()["E032"].hint


@pytest.mark.parametrize("backend", [None, "disabled://", "cache+memory://", "rpc://"])
def test_e032_says_nothing_of_a_result_backend_that_can(celery_setting, backend):
    celery_setting("result_backend", backend)
    assert found() == {}


def test_e033_a_broker_whose_transport_is_unknown(celery_setting):
    celery_setting("broker_url", "nosuchtransport://127.0.0.1")
    assert "CELERY_BROKER_URL" in found()["E033"].hint


@pytest.mark.parametrize("url", ["memory://", "amqp://127.0.0.1:1//"])
def test_e033_says_nothing_of_a_known_transport_whether_the_broker_runs_or_not(celery_setting, url):
    celery_setting("broker_url", url)
    assert found() == {}


def test_e033_a_folder_of_the_file_system_broker_that_is_missing(celery_setting, tmp_path):
    celery_setting("broker_url", "filesystem://")
    folder = tmp_path / "broker"
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    celery_setting("broker_transport_options", options)
    assert str(folder) in found()["E033"].msg
    folder.mkdir()
    assert found() == {}


@pytest.fixture
def sqlite(monkeypatch):
    """A function that lets the check see an SQLite database with these OPTIONS."""

    def sqlite(options):
        wrapper = DatabaseWrapper({"OPTIONS": options}, alias="default")
        monkeypatch.setattr(surroundings, "connections", {"default": wrapper})

    return sqlite


@pytest.mark.parametrize("missing", list(SQLITE_OPTIONS))
def test_w040_sqlite_without_what_lets_two_processes_write(sqlite, celery_setting, missing):
    celery_setting("task_always_eager", False)
    sqlite({name: value for name, value in SQLITE_OPTIONS.items() if name != missing})
    message = found()["W040"]
    assert repr(missing) in message.msg
    assert repr(SQLITE_OPTIONS) in message.hint


def test_w040_says_nothing_where_all_is_set(sqlite, celery_setting):
    celery_setting("task_always_eager", False)
    sqlite(SQLITE_OPTIONS)
    assert found() == {}
    if django.VERSION >= (5, 1):
        sqlite({**SQLITE_OPTIONS, "transaction_mode": "EXCLUSIVE", "timeout": 60})
        assert found() == {}


def test_w040_says_nothing_where_one_process_does_everything(sqlite, celery_setting):
    celery_setting("task_always_eager", True)
    sqlite({})
    assert found() == {}


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/Chicago", "Australia/Lord_Howe"])
def test_e041_naive_dates_in_a_zone_whose_clocks_are_changed(settings, zone):
    settings.USE_TZ, settings.TIME_ZONE = False, zone
    message = found()["E041"]
    assert repr(zone) in message.msg
    assert "USE_TZ = True" in message.hint


@pytest.mark.parametrize("zone", ["UTC", "Africa/Nairobi", "Asia/Kathmandu"])
def test_e041_says_nothing_of_a_zone_whose_clocks_are_not_changed(settings, zone):
    settings.USE_TZ, settings.TIME_ZONE = False, zone
    assert found() == {}


def test_e041_says_nothing_of_aware_dates(settings):
    settings.TIME_ZONE = "Europe/Zurich"
    assert found() == {}


def test_e041_a_database_with_a_time_zone_of_its_own(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Europe/Zurich")
    if connection.vendor == "postgresql":  # which stores the moment itself
        assert found() == {}
    else:
        assert "DATABASES['default']['TIME_ZONE']" in found()["E041"].msg
    monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Africa/Nairobi")
    assert found() == {}


@pytest.mark.parametrize("engine", ["django_tenants", "tenant_schemas"])
@pytest.mark.parametrize(
    "apps", [["rapidsms_db_router"], ["rapidsms_db_router.apps.RapidsmsDbRouterConfig"]]
)
def test_e042_tenants_in_schemas_of_their_own(settings, monkeypatch, engine, apps):
    monkeypatch.setitem(connection.settings_dict, "ENGINE", f"{engine}.postgresql_backend")
    assert found() == {}  # one set of tables, which all tenants share
    settings.TENANT_APPS = ["rapidsms", *apps]
    message = found()["E042"]
    assert f"{engine}.postgresql_backend" in message.msg
    assert "SHARED_APPS" in message.hint


def test_e042_says_nothing_without_tenants(settings):
    settings.TENANT_APPS = ["rapidsms_db_router"]
    assert found() == {}


@pytest.mark.parametrize("backends", [None, [], "phones", {"phones"}])
def test_e013_installed_backends_is_no_dictionary(settings, backends):
    settings.INSTALLED_BACKENDS = backends
    message = found()["E013"]
    assert f"INSTALLED_BACKENDS is a {type(backends).__name__}" in message.msg
    assert "'ENGINE'" in message.hint


@pytest.mark.parametrize(
    ("backends", "named"),
    [
        ({"phones": None}, "'phones' that is a NoneType"),
        ({"phones": [("ENGINE", RECORDING)]}, "'phones' that is a list"),
        ({5: {"ENGINE": RECORDING}}, "5, whose name is a int"),
        ({"phones": {"ENGINE": RECORDING, 7: "secret"}}, "'phones' with 7"),
    ],
)
def test_e013_a_backend_is_a_dictionary_with_texts_as_keys(settings, backends, named):
    settings.INSTALLED_BACKENDS = backends
    message = found()["E013"]
    assert named in message.msg
    assert "secret" not in message.msg


def test_e012_looks_at_every_spelling_of_an_option(settings):
    settings.INSTALLED_BACKENDS = phones(**{"Router.DB.Rate": "fast", "router.db.rate": "30/s"})
    assert "'fast'" in found()["E012"].msg
