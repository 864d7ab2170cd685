"""Settings are read anew on every use."""

import pytest
from django.test import override_settings

from rapidsms_db_router import conf


def test_defaults_hold_without_any_setting():
    assert conf.batch_size() == 200
    assert conf.max_retries() == 5
    assert conf.retry_backoff() == 60.0


def test_settings_come_before_defaults_and_are_never_kept():
    with override_settings(
        DB_ROUTER_DEFAULT_BATCH_SIZE=7, DB_ROUTER_MAX_RETRIES=0, DB_ROUTER_RETRY_BACKOFF=0.5
    ):
        assert conf.batch_size() == 7
        assert conf.max_retries() == 0
        assert conf.retry_backoff() == 0.5
    assert conf.batch_size() == 200


@pytest.mark.parametrize(
    ("read", "option", "setting"),
    [
        (conf.batch_size, "router.db.batch_size", "DB_ROUTER_DEFAULT_BATCH_SIZE"),
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
