"""What the two projects have in common: everything but the router.

What differs from run to run comes by environment: BENCHMARK_DATABASE, BENCHMARK_BACKENDS (as JSON)
and BENCHMARK_BATCH_SIZE.
"""

import json
import os

from tests.servers import BROKERS

SECRET_KEY = "only for benchmarks"
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

COMMON_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rapidsms",
    "rapidsms.contrib.handlers",
    "benchmarks.service",
]
NAME = os.environ["BENCHMARK_DATABASE"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": NAME,
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "CONN_MAX_AGE": 600,
    }
}

RAPIDSMS_HANDLERS = [
    "tests.acceptance.project.handlers.PingHandler",
    "benchmarks.service.handlers.CountHandler",
]
GATEWAY = {"ENGINE": "benchmarks.service.gateway.Gateway"}
INSTALLED_BACKENDS = {"gateway": GATEWAY, "other": GATEWAY} | json.loads(
    os.environ.get("BENCHMARK_BACKENDS", "{}")
)
DB_ROUTER_DEFAULT_BATCH_SIZE = int(os.environ.get("BENCHMARK_BATCH_SIZE", "200"))
if "BENCHMARK_RETRY_BACKOFF" in os.environ:
    DB_ROUTER_RETRY_BACKOFF = float(os.environ["BENCHMARK_RETRY_BACKOFF"])

CELERY_BROKER_URL = BROKERS["redis"]
# a queue of its own on a broker that others use too
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{NAME}:"}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
