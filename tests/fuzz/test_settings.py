"""Whatever the settings are, the checks name what is wrong; what they pass can be read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.checks import run_checks
from hypothesis import given
from hypothesis import strategies as st

from rapidsms_db_router import conf
from rapidsms_db_router.checks import settings as checks
from rapidsms_db_router.checks.settings import (
    BACKEND_OPTIONS,
    ID,
    SETTINGS,
    check_backends,
    check_settings,
)
from rapidsms_db_router.db.text import shown
from rapidsms_db_router.models.lease import lease

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 0.5, 1e300, 5e-324])
    | st.integers(4000, 5000).map(lambda digits: 10**digits)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.from_regex(r"-?[0-9]{1,30}/[smhd]", fullmatch=True)
    | st.sampled_from(["resend", "error", "3/h", "\N{ARABIC-INDIC DIGIT THREE}/s", "9" * 5000])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(LEAVES, inner, max_size=3)
        | st.sets(LEAVES, max_size=3)
    ),
    max_leaves=5,
)
ENGINES = st.sampled_from(
    [
        "tests.service.backends.RecordingBackend",
        "rapidsms.backends.kannel.KannelBackend",
        "tests.service.backends.calls",
        ".Backend",
        "..",
        "\x00.\ud800",
    ]
)
KEYS = st.sampled_from(
    [*BACKEND_OPTIONS, *map(str.upper, BACKEND_OPTIONS), "router.db.no_such", "router.celery.eager"]
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={"ENGINE": ENGINES | ANYTHING, "engine": ENGINES | ANYTHING},
).flatmap(lambda engine: st.dictionaries(KEYS | LEAVES, ANYTHING, max_size=4).map(engine.__or__))
BACKENDS = ANYTHING | st.dictionaries(st.text(max_size=8) | LEAVES, OPTIONS | ANYTHING, max_size=3)


class OfThisThread:
    """The settings, of which some are others for this thread: a worker's thread may be running."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values, self._thread = values, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        if name in self._values and threading.get_ident() == self._thread:
            return self._values[name]
        return getattr(settings, name)


@contextmanager
def changed(**values: Any) -> Iterator[None]:
    both = OfThisThread(values)
    with mock.patch.object(conf, "settings", both), mock.patch.object(checks, "settings", both):
        yield


@pytest.mark.django_db  # the first process to ask the time asks the database
@given(values=st.dictionaries(st.sampled_from(list(SETTINGS)), ANYTHING))
def test_what_is_wrong_with_a_setting_is_said_and_the_rest_can_be_read(
    values: dict[str, Any],
) -> None:
    with changed(**values):
        found = check_settings()
        check_backends()
        for message in found:
            name = message.msg.partition(" ")[0]
            assert shown(values[name]) in message.msg
            assert message.hint
        if not found:
            _read_everything("phones")
            assert lease()


@given(backends=BACKENDS)
def test_what_is_wrong_with_a_backend_is_said_and_the_rest_can_be_read(backends: Any) -> None:
    with changed(INSTALLED_BACKENDS=backends):
        found = check_backends()
        for message in found:
            assert message.id.startswith(ID)
            assert message.hint
            assert "INSTALLED_BACKENDS" in message.msg or any(
                shown(name) in message.msg for name in backends
            )
        if not any(message.is_serious() for message in found):
            assert conf.has_eager_backend() in (True, False)
            for name in backends:
                _read_everything(name)


def test_all_checks_run_on_settings_that_are_wrong_altogether() -> None:
    wrong = dict.fromkeys([*SETTINGS, "INSTALLED_BACKENDS"], "nonsense")
    with changed(**wrong):
        assert {message.id for message in run_checks()} >= {ID + "E001", ID + "E013"}


def _read_everything(name: str) -> None:
    """Read every setting of a backend, as the router does."""
    assert 0 < conf.call_size(name) <= conf.claim_size(name)
    assert conf.max_retries(name) >= 0
    assert conf.concurrency(name) > 0
    assert conf.timeout(name) > 0
    assert conf.retry_backoff() > 0
    assert conf.recovery_interval() > 0
    assert conf.after_crash(name) in (conf.RESEND, conf.ERROR)
    assert conf.rate(name) is None or 0 < conf.rate(name) <= 10_000
    assert conf.queue(name) is None or conf.queue(name)
    assert conf.is_local(name) in (True, False)
    assert conf.is_eager(name) in (True, False)
    assert conf.atomic_receive() in (True, False)
