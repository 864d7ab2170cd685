"""The Celery app: the project's own, or one made from the Django settings."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.long

OWN_APP = """
from celery import Celery

app = Celery("clinic", broker="memory://from-celery-py")
"""

#: Says which app tasks are published with, in this thread and in another.
SAY = """
import json, threading
import django
django.setup()
from celery import current_app
from rapidsms_db_router.tasks import receive_async

def say():
    said.append({
        "name": current_app.main,
        "broker": current_app.conf.broker_url,
        "eager": current_app.conf.task_always_eager,
        "same": receive_async.app is current_app._get_current_object(),
        "tasks": sorted(name for name in current_app.tasks if not name.startswith("celery.")),
    })

said = []
say()
thread = threading.Thread(target=say)
thread.start()
thread.join()
current_app.loader.import_default_modules()
say()
print(json.dumps(said))
"""


def said_by(project):
    ended = project.python("-c", SAY)
    assert ended.returncode == 0, ended.stderr
    first, in_thread, with_tasks = json.loads(ended.stdout)
    assert first == in_thread
    assert first["same"]
    return with_tasks


def test_a_project_without_one_gets_one_from_its_settings(project):
    said = said_by(project)
    assert said["broker"] == "memory://from-settings"
    assert said["eager"] is True  # CELERY_TASK_ALWAYS_EAGER


def test_a_project_without_one_has_the_tasks_of_its_apps_found(project):
    project.write("register/__init__.py", "")
    project.write(
        "register/tasks.py",
        "from celery import shared_task\n\n@shared_task\ndef remind():\n    pass\n",
    )
    project.add_settings("INSTALLED_APPS += ['register']")
    assert said_by(project)["tasks"] == [
        "rapidsms_db_router.tasks.receive_async",
        "rapidsms_db_router.tasks.record_delivery_reports",
        "rapidsms_db_router.tasks.recover_messages",
        "rapidsms_db_router.tasks.run_bulk_action",
        "rapidsms_db_router.tasks.send_transmissions",
        "register.tasks.remind",
    ]


def test_the_projects_own_is_used(project):
    project.write("clinic/celery.py", OWN_APP)
    project.write("clinic/__init__.py", "from clinic.celery import app\n")
    said = said_by(project)
    assert (said["name"], said["broker"]) == ("clinic", "memory://from-celery-py")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel"])
def test_the_projects_own_outlives_redis_too(project, scheme):
    project.write("clinic/celery.py", OWN_APP.replace("memory", scheme))
    ended = project.python(
        "-c",
        "import django; django.setup(); from celery import current_app;"
        "print(current_app.connection_for_read().get_transport_cls().__module__)",
    )
    assert ended.stdout == "rapidsms_db_router.brokers.redis\n", ended.stderr


def test_the_projects_own_is_found_where_nothing_imports_it(project):
    project.write("clinic/celery.py", OWN_APP)
    assert said_by(project)["name"] == "clinic"


def test_the_projects_own_is_found_above_a_package_of_settings(project):
    project.write("clinic/celery.py", OWN_APP)
    project.write("clinic/config/__init__.py", "")
    project.write("clinic/config/production.py", "from clinic.settings import *\n")
    project.settings = "clinic.config.production"
    assert said_by(project)["name"] == "clinic"


def test_the_projects_own_may_be_broken_and_is_not_passed_over(project):
    project.write("clinic/celery.py", "import no_such_library\n")
    ended = project.python("-c", SAY)
    assert ended.returncode != 0
    assert "No module named 'no_such_library'" in ended.stderr


def test_settings_that_are_no_part_of_a_package_will_do(project):
    project.write("settings_of_one_file.py", "from clinic.settings import *\n")
    project.settings = "settings_of_one_file"
    assert said_by(project)["broker"] == "memory://from-settings"
