"""``manage.py celery``: every Celery command, on the project's Celery app."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec

import celery
import pytest

from rapidsms_db_router.management.commands.celery import with_pool
from tests.acceptance.running import wait_for

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

OWN_APP = """
from celery import Celery
app = Celery('clinic', broker='memory://from-clinic')
"""
MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
#: Calls manage.py from a folder below.
FROM_FOLDER = """
import os, sys
os.chdir(sys.argv[1])
os.execv(sys.executable, [sys.executable, "../manage.py", *sys.argv[2:]])
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
    project.write("clinic/celery.py", OWN_APP)
    project.write("manage.py", MANAGE)
    ended = project.python("-c", FROM_FOLDER, "clinic", "celery", "report")
    assert ended.returncode == 0, ended.stderr
    assert "software -> celery" in ended.stdout


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no option -P")
@pytest.mark.parametrize("words", [["worker", "--detach"], ["multi", "start", "w1@localhost"]])
def test_nor_does_a_worker_in_the_background_find_it(project, tmp_path, words):
    project.write("clinic/celery.py", OWN_APP)
    project.write("manage.py", MANAGE)
    project.write("run/celery.py", "raise ImportError('not this one')")
    pidfile, log = tmp_path / "worker.pid", tmp_path / "worker.log"
    where = [f"--pidfile={pidfile}", f"--logfile={log}", "-c", "1", "-l", "info"]
    ended = project.python("-c", FROM_FOLDER, "run", "celery", *words, *where)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    try:
        wait_for("the worker", lambda: log.exists() and " ready." in log.read_text(), patience=20)
    finally:
        with suppress(FileNotFoundError):
            os.kill(int(pidfile.read_text()), signal.SIGTERM)
    wait_for("its end", lambda: not pidfile.exists())


#: Says whether Python's modules are patched by the time that Django reads the settings.
SAY_WHETHER_PATCHED = """
import sys
from gevent.monkey import is_module_patched
print('socket is patched:', is_module_patched('socket'), file=sys.stderr)
"""


@pytest.mark.long
@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("words", [["-P", "gevent"], ["-Pgevent"], ["--pool=gevent"]], ids=" ".join)
def test_gevent_patches_before_django_is_imported(project, words):
    project.add_settings(SAY_WHETHER_PATCHED)
    ended = project.manage("celery", "worker", *words, "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "socket is patched: True"


@pytest.mark.long
@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("way", ["setting", "environment"])
def test_gevent_patches_where_no_option_names_it(project, monkeypatch, way):
    project.add_settings(SAY_WHETHER_PATCHED)
    if way == "setting":
        project.add_settings("CELERY_WORKER_POOL = 'gevent'")
    else:
        monkeypatch.setenv("CELERY_WORKER_POOL", "gevent")
    ended = project.manage("celery", "worker", "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "socket is patched: True"


@pytest.mark.long
def test_an_app_that_is_named_is_the_one(project):
    project.write("other.py", OWN_APP.replace("clinic", "other"))
    for words in (["-A", "other", "report"], ["--app=other", "report"]):
        ended = project.manage("celery", *words)
        assert "@from-other//" in ended.stdout, ended.stderr
    ended = project.manage("celery", "multi", "show", "w1", "-A", "other")
    assert "-A other" in ended.stdout
    assert "rapidsms_db_router" not in ended.stdout


def test_celerys_own_command_takes_the_same_app(project):
    ended = project.python("-m", "celery", "-A", "rapidsms_db_router.worker.app", "report")
    assert ended.returncode == 0, ended.stderr
    assert "broker_connection_retry_on_startup: True" in ended.stdout


@pytest.mark.parametrize(
    ("words", "handed_on"),
    [
        ("worker -c 4", "worker --pool=gevent -c 4"),
        ("-b redis:// -q worker", "-b redis:// -q worker --pool=gevent"),
        ("-A worker worker", "-A worker worker --pool=gevent"),
        ("multi start worker", "multi start --pool=gevent worker"),
        ("multi restart w1 w2 -c 4", "multi restart --pool=gevent w1 w2 -c 4"),
        ("multi show w1", "multi show --pool=gevent w1"),
        ("worker -P threads", "worker -P threads"),
        ("multi stopwait w1", "multi stopwait w1"),
        ("purge -f -Q worker", "purge -f -Q worker"),
        ("call start", "call start"),
        ("inspect ping -d worker", "inspect ping -d worker"),
        ("--version", "--version"),
    ],
)
def test_a_green_pool_of_the_settings_is_named_to_every_command_that_starts_workers(
    monkeypatch, words, handed_on
):
    monkeypatch.setenv("CELERY_WORKER_POOL", "gevent")
    assert " ".join(with_pool(words.split())) == handed_on
