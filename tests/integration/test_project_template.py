"""A project is made from the template, and works as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from rapidsms_db_router import template

#: A visit of the pages by an operator, who then logs out.
VISIT = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING")
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
User.objects.create_superuser("ann", password="secret")
client = Client(HTTP_HOST="localhost")
assert client.get("/", follow=True).redirect_chain[-1][0].startswith("/accounts/login/")
client.post("/accounts/login/", {"username": "ann", "password": "secret"})
pages = {path: client.get(path) for path in ("/operations/", "/httptester/1/", "/admin/")}
for path, page in pages.items():
    assert page.status_code == 200, (path, page.status_code)
    assert b"Log out" in page.content or b"log out" in page.content.lower(), path
assert b'method="post" action="/accounts/logout/"' in pages["/httptester/1/"].content
assert client.post("/accounts/logout/").status_code == 200
# the gateway is on this machine, or it names the secret
sms = {"from": "256700000001", "text": "hello"}
assert client.post("/sms/", sms, REMOTE_ADDR="10.0.0.1").status_code == 403
"""
SETTINGS = """
import json
from service import settings
print(json.dumps({
    "database": settings.DATABASES["default"], "broker": settings.CELERY_BROKER_URL,
    "apps": settings.INSTALLED_APPS, "debug": settings.DEBUG,
}, default=str))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project, as ``django-admin startproject --template`` makes it."""
    call_command("startproject", "service", str(tmp_path), template=str(template.FOLDER))
    return tmp_path


def run(project: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = ("DEBUG", "SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL", "SMS_SECRET")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=project,
        env={**kept, "DJANGO_SETTINGS_MODULE": "service.settings", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_project_of_the_template_has_pages_and_a_guarded_way_in(project):
    done = run(project, VISIT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_variables_there_are_sqlite_and_files(project):
    said = json.loads(run(project, SETTINGS).stdout)
    assert said["database"]["ENGINE"] == "django.db.backends.sqlite3"
    assert said["broker"] == "filesystem://"
    assert (project / "broker").stat().st_mode & 0o777 == 0o700


def test_two_variables_choose_postgresql_and_redis(project):
    url = "postgres://an%40n:se%2Fcret@db.example.org:5433/sms?sslmode=require"
    variables = {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:6379/3"}
    said = json.loads(run(project, SETTINGS, **variables).stdout)
    assert said["database"] == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "sms",
        "USER": "an@n",
        "PASSWORD": "se/cret",
        "HOST": "db.example.org",
        "PORT": 5433,
        "OPTIONS": {"sslmode": "require"},
    }
    assert said["broker"] == "redis://127.0.0.1:6379/3"
    assert not (project / "broker").exists()


def test_another_database_is_refused_by_name(project):
    done = run(project, SETTINGS, DATABASE_URL="mysql://127.0.0.1/sms")
    assert "DATABASE_URL begins with 'mysql'" in done.stderr


def test_production_needs_a_secret_and_has_no_message_tester(project):
    assert "Set SECRET_KEY in the environment" in run(project, SETTINGS, DEBUG="0").stderr
    variables = {"SECRET_KEY": "s" * 60, "ALLOWED_HOSTS": "sms.example.org"}
    said = json.loads(run(project, SETTINGS, DEBUG="0", **variables).stdout)
    assert said["debug"] is False
    assert "rapidsms.contrib.httptester" not in said["apps"]


def test_the_folder_is_printed_for_the_shell():
    command = [sys.executable, "-m", "rapidsms_db_router.template"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (Path(said.strip()) / "manage.py-tpl").is_file()
