"""Settings of the demo: SQLite, Celery's file-system broker, and gateways that run beside it."""

import os
from pathlib import Path

from demo.kannel import SENDSMS_PARAMS

#: Everything the demo writes is in here; delete the folder to begin anew.
RUN = Path(os.environ.get("DEMO_FOLDER") or Path(__file__).parent / "run")
QUEUE, CONTROL = RUN / "broker" / "queue", RUN / "broker" / "control"
for folder in (QUEUE, CONTROL):
    folder.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "only for the demo"
DEBUG = True  # so that runserver serves the pages' styles, too
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = os.environ.get("DEMO_LANGUAGE", "en-us")
ROOT_URLCONF = "demo.urls"
STATIC_URL = "/static/"
LOGIN_URL = "rapidsms-login"
LOGIN_REDIRECT_URL = "/"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"  # as RapidSMS's migrations have it

INSTALLED_APPS = [
    "demo.health",  # before RapidSMS, whose navigation bar it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_tables2",
    "rapidsms",
    "rapidsms.backends.database",
    "rapidsms.backends.kannel",
    "rapidsms.contrib.handlers",
    "rapidsms.contrib.httptester",
    "rapidsms_db_router",
    "rapidsms_db_router.operations",
    "rapidsms.contrib.default",  # last: answers what nobody else has
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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
                "django.template.context_processors.static",  # RapidSMS's pages use STATIC_URL
            ]
        },
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": RUN / "demo.sqlite3",
        # with these, web server and worker can both write
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL;",
        },
    }
}

# RapidSMS

RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
RAPIDSMS_HANDLERS = [
    "demo.health.handlers.HelpHandler",
    "demo.health.handlers.RegisterHandler",
    "demo.health.handlers.ReportHandler",
]
DEFAULT_RESPONSE = "Sorry, we did not understand. Send HELP to see what we do."
INSTALLED_BACKENDS = {
    "gateway": {
        "ENGINE": "demo.health.backends.GatewayBackend",
        "url": os.environ.get("DEMO_GATEWAY_URL", "http://127.0.0.1:8001/"),
        "router.db.batch_size": 50,
    },
    # another gateway, whose account has no credit for a while
    "north": {
        "ENGINE": "demo.health.backends.GatewayBackend",
        "url": os.environ.get("DEMO_GATEWAY_URL", "http://127.0.0.1:8001/") + "north",
        "router.db.batch_size": 5,
        "router.db.rate": "20/s",
    },
    "message_tester": {
        "ENGINE": "rapidsms.backends.database.DatabaseBackend",
        "router.db.eager": True,  # its page shows the reply at once
    },
}
if "DEMO_SENDSMS_URL" in os.environ:  # "make demo-kannel"
    INSTALLED_BACKENDS["kannel"] = {
        "ENGINE": "rapidsms_db_router.gateways.kannel.KannelBackend",
        "sendsms_url": os.environ["DEMO_SENDSMS_URL"],
        "sendsms_params": SENDSMS_PARAMS,
        "delivery_report_url": os.environ["DEMO_WEB_URL"],
    }

# The router: quick and few retries, so that the demo ends soon, and figures that are quickly there

DB_ROUTER_MAX_RETRIES = 3
DB_ROUTER_RETRY_BACKOFF = 1
DB_ROUTER_RECOVERY_INTERVAL = 5

# Celery: without a celery.py, the router makes an app from these

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT = "rapidsms_db_router.brokers.filesystem.Transport"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(QUEUE),
    "data_folder_out": str(QUEUE),
    "control_folder": str(CONTROL),
    "polling_interval": 0.05,
}
CELERY_WORKER_CONCURRENCY = 2  # SQLite takes one writer at a time
