"""Settings of the tests; DB_ROUTER_TEST_DATABASE chooses sqlite, postgres or mariadb."""

import os
import tempfile
from pathlib import Path

import django

SECRET_KEY = "only for tests"
USE_TZ = True
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
LOGIN_URL = "/admin/login/"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "django_tables2",
    "selectable",
    "rapidsms",
    "rapidsms.backends.database",
    "rapidsms.backends.kannel",
    "rapidsms.contrib.handlers",
    "rapidsms.contrib.echo",
    "rapidsms_db_router",
    "rapidsms_db_router.operations",
    "tests.service",
]
SITE_ID = 1
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.request",
            ]
        },
    }
]

#: Where a run keeps its database, its file-system broker and what its gateways received.
RUN_FOLDER = Path(os.environ.get("DB_ROUTER_TEST_FOLDER") or tempfile.gettempdir())
DATABASE = os.environ.get("DB_ROUTER_TEST_DATABASE", "sqlite")
DATABASE_NAME = os.environ.get("DB_ROUTER_TEST_NAME", "rapidsms_db_router")

if DATABASE == "sqlite":
    options = {"timeout": 20}
    if django.VERSION >= (5, 1):
        options |= {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"}
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": RUN_FOLDER / f"{DATABASE_NAME}.sqlite3",
            "OPTIONS": options,
            # a file, so that threads and processes meet in it
            "TEST": {"NAME": RUN_FOLDER / f"test_{DATABASE_NAME}_{os.getpid()}.sqlite3"},
        }
    }
elif DATABASE == "postgres":
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": DATABASE_NAME,
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
        }
    }
else:
    OPTIONS = {"charset": "utf8mb4"}
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        import pymysql

        pymysql.install_as_MySQLdb()
        # it would load the system's certificates for each connection
        OPTIONS["ssl_disabled"] = True
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.mysql",
            "NAME": DATABASE_NAME,
            "HOST": os.environ.get("MARIADB_HOST", "127.0.0.1"),
            "PORT": os.environ.get("MARIADB_PORT", "3306"),
            "USER": os.environ.get("MARIADB_USER", "root"),
            "PASSWORD": os.environ.get("MARIADB_PASSWORD", ""),
            "OPTIONS": OPTIONS,
            "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_bin"},
        }
    }

RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
INSTALLED_BACKENDS = {}
RAPIDSMS_HANDLERS = ["rapidsms.contrib.echo.handlers.echo.EchoHandler"]

# eager, unless a test starts a real worker
CELERY_BROKER_URL = os.environ.get("DB_ROUTER_TEST_BROKER", "memory://")
CELERY_TASK_ALWAYS_EAGER = "DB_ROUTER_TEST_BROKER" not in os.environ
