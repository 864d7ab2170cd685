"""``manage.py celery``: every Celery command, on the project's Celery app."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import celery
import pytest

CALL = """
import sys, django
from django.core.management import CommandError, call_command
django.setup()
try:
    call_command("celery", *sys.argv[1:])
except CommandError as err:
    print("failed with", err.returncode)
else:
    print("went well")
"""


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


def test_called_from_python_it_returns(project):
    ended = project.python("-c", CALL, "report")
    assert "software -> celery" in ended.stdout, ended.stderr
    assert "went well" in ended.stdout


def test_called_from_python_it_raises_what_celery_ends_with(project):
    ended = project.python("-c", CALL, "nosuchcommand")
    assert "No such command 'nosuchcommand'" in ended.stderr
    assert "failed with 2" in ended.stdout


def test_what_follows_two_hyphens_is_configuration(project):
    ended = project.manage("celery", "worker", "--", "no.such=1")
    assert ended.returncode == 2
    assert "Unable to parse extra configuration" in ended.stderr


def test_modules_are_found_where_django_finds_them(project):
    project.write("elsewhere/of_elsewhere.py", "from clinic.settings import *\n")
    project.settings = "no.such.settings"
    ended = project.manage("celery", "report", "--pythonpath=elsewhere", "--settings=of_elsewhere")
    assert ended.returncode == 0, ended.stderr
    assert "software -> celery" in ended.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no option -P")
def test_a_module_named_celery_in_the_current_folder_is_left_alone(project):
    project.write("clinic/celery.py", "from celery import Celery\napp = Celery('clinic')\n")
    project.write(
        "manage.py",
        "import sys\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n",
    )
    ended = project.python(
        "-c",
        "import os, sys\n"
        "os.chdir('clinic')\n"
        "os.execv(sys.executable, [sys.executable, '../manage.py', 'celery', 'report'])",
    )
    assert ended.returncode == 0, ended.stderr
    assert "software -> celery" in ended.stdout


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
def test_gevent_patches_before_django_is_imported(project):
    project.add_settings(
        "import sys\n"
        "from gevent.monkey import is_module_patched\n"
        "print('socket is patched:', is_module_patched('socket'), file=sys.stderr)"
    )
    ended = project.manage("celery", "worker", "-P", "gevent", "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "socket is patched: True"


def test_celerys_own_command_takes_the_same_app(project):
    ended = project.python("-m", "celery", "-A", "rapidsms_db_router.worker.app", "report")
    assert ended.returncode == 0, ended.stderr
    assert "broker_connection_retry_on_startup: True" in ended.stdout
