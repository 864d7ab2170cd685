"""Wrong settings end ``manage.py check`` with an error: not a task with a traceback."""

from __future__ import annotations

import re

import pytest

WRONG = """
DB_ROUTER_DEFAULT_BATCH_SIZE = 0
DB_ROUTER_MAX_RETRIES = "five"
DB_ROUTER_RETRY_BACKOFF = None
RECORDING = "tests.service.backends.RecordingBackend"
INSTALLED_BACKENDS = {
    "gone": {"ENGINE": "no.such.Backend"},
    "phones": {"ENGINE": RECORDING, "router.db.eagre": True, "router.db.batch_size": "many"},
}
INSTALLED_APPS += ["rapidsms.router.db"]
RAPIDSMS_ROUTER = "rapidsms.router.blocking.BlockingRouter"
CELERY_RESULT_BACKEND = "django-db"
CELERY_BROKER_URL = "nosuchtransport://"
"""
BACKENDS = "INSTALLED_BACKENDS = {'phones': {'ENGINE': 'tests.service.backends.RecordingBackend'}}"
#: Says which model has the name, for instances and for queries.
NAMES = """
import django
django.setup()
from rapidsms.models import Connection
print(Connection.transmissions.field.model._meta.app_config.name)
print(Connection._meta.get_field("transmissions").related_model._meta.app_config.name)
"""


def test_sound_settings_pass(project):
    ended = project.manage("check")
    assert ended.returncode == 0, ended.stderr


def test_every_wrong_setting_is_told_at_once(project):
    project.add_settings(WRONG)
    ended = project.manage("check")
    assert ended.returncode == 1
    found = set(re.findall(r"rapidsms_db_router\.([EW]\d+)", ended.stderr))
    assert found == {"E001", "E002", "E003", "E010", "E011", "E012", "W020", "E032", "E033"}
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("router", "place"),
    [
        ("rapidsms.router.db", "0"),
        ("rapidsms_db_router", "len(INSTALLED_APPS)"),
        pytest.param("rapidsms.router.db", "len(INSTALLED_APPS)", marks=pytest.mark.long),
        pytest.param("rapidsms_db_router", "0", marks=pytest.mark.long),
    ],
)
def test_the_old_router_may_be_installed_as_well(project, router, place):
    project.add_settings(f"{BACKENDS}\nINSTALLED_APPS.insert({place}, 'rapidsms.router.db')")
    project.add_settings(f"RAPIDSMS_ROUTER = '{router}.DatabaseRouter'")
    ended = project.manage("check", "--fail-level", "INFO")
    assert ended.returncode == 0, ended.stderr
    assert "no issues" in ended.stdout
    # the name is that of the router in the settings, for instances and for queries
    named = project.python("-c", NAMES)
    assert named.stdout.split() == [router] * 2, named.stderr
    unchanged = project.manage("makemigrations", "--check", "--dry-run", "db", "rapidsms_db_router")
    assert unchanged.returncode == 0, unchanged.stdout


def test_a_router_of_the_projects_own_is_told_who_has_the_name(project):
    project.add_settings(f"{BACKENDS}\nINSTALLED_APPS.append('rapidsms.router.db')")
    project.write(
        "clinic/router.py",
        "from rapidsms_db_router import DatabaseRouter\nclass Router(DatabaseRouter):\n    pass\n",
    )
    project.add_settings("RAPIDSMS_ROUTER = 'clinic.router.Router'")
    ended = project.manage("check", "--fail-level", "INFO")
    assert re.findall(r"rapidsms_db_router\.([EW]\d+)", ended.stderr) == ["W022"]
    assert "Remove 'rapidsms.router.db' from INSTALLED_APPS" in ended.stderr


def test_celery_settings_that_cannot_be_read_are_an_error(project):
    project.write(
        "clinic/celery.py",
        "from celery import Celery\n"
        "app = Celery('clinic')\n"
        "app.config_from_object("
        "{'CELERY_ACCEPT_CONTENT': ['json'], 'task_always_eager': True, 'broker_url': 'memory://'})\n",
    )
    ended = project.manage("check")
    assert ended.returncode == 1
    assert "rapidsms_db_router.E030" in ended.stderr
    assert "Traceback" not in ended.stderr
