"""``manage.py celery``: every Celery command, on the project's Celery app."""

from __future__ import annotations

import celery
import pytest


def test_help_is_celerys(project):
    ended = project.manage("celery", "worker", "--help")
    assert ended.returncode == 0, ended.stderr
    assert "--concurrency" in ended.stdout


def test_djangos_own_options_are_not_handed_to_celery(project):
    project.settings = "no.such.settings"
    ended = project.manage("celery", "--version", "--settings=clinic.settings")
    assert ended.returncode == 0, ended.stderr
    assert celery.__version__ in ended.stdout


def test_an_unknown_command_ends_with_celerys_usage(project):
    project.settings = "no.such.settings"
    ended = project.manage("celery", "nosuchcommand", "--settings", "clinic.settings")
    assert ended.returncode == 2
    assert "No such command 'nosuchcommand'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["inspect", "ping"], ["purge", "-f"]], ids=" ".join)
def test_without_a_broker_a_command_ends_with_a_message_that_says_so(project, words):
    project.add_settings("CELERY_BROKER_URL = 'amqp://guest:secret@127.0.0.1:1//'")
    project.add_settings("CELERY_BROKER_TRANSPORT_OPTIONS = {'max_retries': 1}")
    ended = project.manage("celery", *words)
    assert ended.returncode != 0
    assert "broker" in ended.stderr
    assert "Connection refused" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stdout + ended.stderr
