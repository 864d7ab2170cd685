"""Settings are read anew on every use."""

import pytest
from django.test import override_settings
from rapidsms.backends.kannel import KannelBackend

from rapidsms_db_router import conf


def test_defaults_hold_without_any_setting():
    assert conf.call_size() == 200
    assert conf.claim_size() == 200
    assert conf.max_retries() == 5
    assert conf.retry_backoff() == 60.0
    assert conf.visibility_timeout() == 600.0
    assert conf.recovery_interval() == 60.0
    assert conf.atomic_receive() is False
    assert conf.concurrency("phones") == 50
    assert conf.timeout("phones") == 60.0
    assert conf.after_crash("phones") == conf.RESEND
    assert conf.rate("phones") is None
    assert conf.queue("phones") is None


def test_settings_come_before_defaults_and_are_never_kept():
    with override_settings(
        DB_ROUTER_DEFAULT_BATCH_SIZE=7, DB_ROUTER_MAX_RETRIES=0, DB_ROUTER_RETRY_BACKOFF=0.5
    ):
        assert conf.call_size() == 7
        assert conf.max_retries() == 0
        assert conf.retry_backoff() == 0.5
    assert conf.call_size() == 200


@pytest.mark.parametrize(
    ("read", "option", "setting"),
    [
        (conf.call_size, "router.db.batch_size", "DB_ROUTER_DEFAULT_BATCH_SIZE"),
        (conf.max_retries, "router.db.max_retries", "DB_ROUTER_MAX_RETRIES"),
    ],
)
def test_a_backends_own_option_comes_before_the_setting(read, option, setting):
    backends = {"own": {option: 3}, "loud": {option.upper(): 4}, "plain": {}}
    with override_settings(INSTALLED_BACKENDS=backends, **{setting: 9}):
        assert read("own") == 3
        assert read("loud") == 4
        assert read("plain") == 9
        assert read("unknown") == 9
        assert read(None) == 9


@pytest.mark.parametrize(
    ("setting", "option", "size"),
    [
        (200, None, 200),
        (200, 1, 200),
        (200, 50, 200),
        (200, 150, 150),  # whole calls alone
        (200, 60, 180),
        (200, 500, 500),  # no less than one call
        (1, None, 1),
        (1, 20, 20),
    ],
)
def test_a_batch_holds_whole_calls(setting, option, size):
    options = {} if option is None else {"router.db.batch_size": option}
    with override_settings(
        INSTALLED_BACKENDS={"phones": options}, DB_ROUTER_DEFAULT_BATCH_SIZE=setting
    ):
        assert conf.claim_size("phones") == size


KANNEL = "rapidsms_db_router.gateways.kannel.KannelBackend"


class OneByOne:
    """An engine that takes one recipient a call."""

    max_recipients = 1


@pytest.mark.parametrize("engine", [KANNEL, OneByOne, f"{__name__}.OneByOne"])
@pytest.mark.parametrize("options", [{}, {"router.db.batch_size": 50}])
def test_an_engine_says_how_many_recipients_a_call_may_have(engine, options):
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": engine, **options}}):
        assert conf.call_size("phones") == 1
        assert conf.claim_size("phones") == 200


@pytest.mark.parametrize("engine", ["no.such.Engine", "nonsense", None, 7, f"{__name__}.NOTHING"])
def test_an_engine_that_cannot_be_imported_says_nothing(engine):
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": engine}}):
        assert conf.call_size("phones") == 200


class PlainKannelBackend(KannelBackend):
    """A project's own, which changes nothing of a request."""


class OwnKannelBackend(KannelBackend):
    """A project's own, which makes requests by itself, perhaps in a coding for each text."""

    def prepare_request(self, id_, text, identities, context):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("engine", "option", "coding"),
    [
        ("rapidsms.backends.kannel.KannelBackend", {"coding": 2}, 2),
        ("rapidsms.backends.kannel.outgoing.KannelBackend", {"CODING": "2"}, 2),
        ("rapidsms.backends.kannel.KannelBackend", {"coding": 1}, 1),
        ("rapidsms.backends.kannel.KannelBackend", {"coding": 0}, 0),
        ("rapidsms.backends.kannel.KannelBackend", {"coding": None}, 0),
        ("rapidsms.backends.kannel.KannelBackend", {}, 0),
        (f"{__name__}.PlainKannelBackend", {"coding": 2}, 2),
        (f"{__name__}.PlainKannelBackend", {}, 0),
        (f"{__name__}.OwnKannelBackend", {"coding": 2}, None),
        (KANNEL, {"coding": 2}, None),
        ("tests.service.backends.RecordingBackend", {"coding": 2}, None),
    ],
)
def test_the_coding_is_that_of_rapidsms_kannel_backend_or_the_texts(engine, option, coding):
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": engine, **option}}):
        assert conf.coding("phones") == coding
        assert conf.coding("unknown") is None


@pytest.mark.parametrize(
    ("read", "option", "value", "expected"),
    [
        (conf.concurrency, "router.db.concurrency", 200, 200),
        (conf.timeout, "router.db.timeout", 5, 5.0),
        (conf.after_crash, "router.db.after_crash", "error", conf.ERROR),
        (conf.rate, "router.db.rate", "30/s", 30.0),
        (conf.rate, "router.db.rate", "600/m", 10.0),
        (conf.rate, "router.db.rate", "360/h", 0.1),
        (conf.rate, "router.db.rate", "nonsense", None),
        (conf.queue, "router.db.queue", "gateways", "gateways"),
    ],
)
def test_an_option_of_a_backend_is_its_own(read, option, value, expected):
    backends = {"own": {option: value}, "loud": {option.upper(): value}, "plain": {}}
    with override_settings(INSTALLED_BACKENDS=backends):
        assert read("own") == read("loud") == expected
        assert read("plain") == read("unknown") == read(None)


@pytest.mark.parametrize(
    ("engine", "local"),
    [
        ("rapidsms.backends.database.DatabaseBackend", True),
        ("rapidsms.contrib.messagetester.backend.MessageTesterBackend", True),
        ("rapidsms.backends.kannel.KannelBackend", False),
        ("tests.service.backends.RecordingBackend", False),
    ],
)
def test_a_backend_of_rapidsms_that_only_writes_rows_is_local(engine, local):
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": engine}}):
        assert conf.is_local("phones") is local
        assert conf.is_local("unknown") is False


@pytest.mark.parametrize(
    ("options", "eager"),
    [
        ({}, False),
        ({"router.db.eager": True}, True),
        ({"router.celery.eager": True}, True),
        ({"ROUTER.CELERY.EAGER": True}, True),
        ({"router.db.eager": False, "router.celery.eager": True}, False),
        ({"router.db.eager": True, "router.celery.eager": False}, True),
    ],
)
def test_a_backend_is_eager_by_our_key_or_by_celery_routers(options, eager):
    with override_settings(INSTALLED_BACKENDS={"phones": options, "other": {}}):
        assert conf.is_eager("phones") is eager
        assert conf.is_eager("other") is False
        assert conf.is_eager("unknown") is False
        assert conf.is_eager(None) is False
        assert conf.has_eager_backend() is eager


def test_installed_backends_have_keys_in_lower_case_as_rapidsms_has_them():
    with override_settings(INSTALLED_BACKENDS={"phones": {"ENGINE": "x", "Host": "y"}}):
        assert list(conf.installed_backends()) == [("phones", {"engine": "x", "host": "y"})]
