"""Wrong settings end ``manage.py check`` with an error: not a task with a traceback."""

from __future__ import annotations

import re

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


def test_sound_settings_pass(project):
    ended = project.manage("check")
    assert ended.returncode == 0, ended.stderr


def test_every_wrong_setting_is_told_at_once(project):
    project.add_settings(WRONG)
    ended = project.manage("check")
    assert ended.returncode == 1
    found = set(re.findall(r"rapidsms_db_router\.([EW]\d+)", ended.stderr))
    assert found == {"E001", "E002", "E003", "E010", "E011", "E012", "E020", "W020", "E032", "E033"}
    assert "Remove 'rapidsms.router.db' from INSTALLED_APPS" in ended.stderr
    assert "Traceback" not in ended.stderr


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
