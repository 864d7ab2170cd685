"""What the two projects have in common: everything but the router.

What differs from run to run comes by environment: BENCHMARK_DATABASE, and how long one call of
the gateway takes in BENCHMARK_GATEWAY_SECONDS.
"""

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

RAPIDSMS_HANDLERS = ["tests.acceptance.project.handlers.PingHandler"]
INSTALLED_BACKENDS = {
    "gateway": {
        "ENGINE": "benchmarks.service.gateway.Gateway",
        "seconds": float(os.environ.get("BENCHMARK_GATEWAY_SECONDS", "0")),
    }
}
DB_ROUTER_DEFAULT_BATCH_SIZE = 200

CELERY_BROKER_URL = BROKERS["redis"]
# a queue of its own on a broker that others use too
CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{NAME}:"}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
