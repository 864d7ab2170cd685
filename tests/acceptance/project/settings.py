"""Settings of a project that runs for real; what differs from run to run comes by environment.

Beside what :mod:`tests.settings` reads: DB_ROUTER_TEST_ATOMIC_REQUESTS; for a Kannel
DB_ROUTER_TEST_SENDSMS_URL (where it takes messages) and DB_ROUTER_TEST_ADDRESS (where its reports
go); DB_ROUTER_TEST_RATE (how fast gateways are given messages); DB_ROUTER_TEST_QUORUM (quorum
queues, with an exchange of this type); DB_ROUTER_TEST_SENTINEL (what Sentinel calls the broker);
DB_ROUTER_TEST_POOL (how many connections to PostgreSQL a process may have in its pool).
"""
# ruff: noqa: F403, F405

import sys

from demo.kannel import SENDSMS_PARAMS
from tests.settings import *

INSTALLED_APPS = [name for name in INSTALLED_APPS if not name.startswith("tests.")]
ROOT_URLCONF = "tests.acceptance.project.urls"
DATABASES["default"]["ATOMIC_REQUESTS"] = "DB_ROUTER_TEST_ATOMIC_REQUESTS" in os.environ
if "DB_ROUTER_TEST_POOL" in os.environ:
    pool = {"min_size": 1, "max_size": int(os.environ["DB_ROUTER_TEST_POOL"]), "timeout": 10}
    DATABASES["default"]["OPTIONS"] = {"pool": pool}
    DB_ROUTER_RECOVERY_INTERVAL = 0.2
if "pymysql" in sys.modules:
    # else it reads the certificates of the whole system whenever it connects: 35 ms
    DATABASES["default"]["OPTIONS"]["ssl_disabled"] = True

RAPIDSMS_HANDLERS = ["tests.acceptance.project.handlers.PingHandler"]
INSTALLED_BACKENDS = {
    "gateway": {
        "ENGINE": "tests.acceptance.project.gateway.GatewayBackend",
        "folder": RUN_FOLDER,
        "router.db.batch_size": 100,
    }
}
if "DB_ROUTER_TEST_SENDSMS_URL" in os.environ:
    INSTALLED_BACKENDS["kannel"] = {
        "ENGINE": "rapidsms_db_router.gateways.kannel.KannelBackend",
        "sendsms_url": os.environ["DB_ROUTER_TEST_SENDSMS_URL"],
        "sendsms_params": SENDSMS_PARAMS,
        "delivery_report_url": os.environ.get("DB_ROUTER_TEST_ADDRESS"),
        "router.db.max_retries": 10,
    }
if "DB_ROUTER_TEST_RATE" in os.environ:
    for options in INSTALLED_BACKENDS.values():
        options["router.db.rate"] = os.environ["DB_ROUTER_TEST_RATE"]
DB_ROUTER_MAX_RETRIES = 2
DB_ROUTER_RETRY_BACKOFF = 1

# a queue of its own on a broker that others use too
CELERY_TASK_DEFAULT_QUEUE = DATABASE_NAME
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": f"{DATABASE_NAME}:"}
elif CELERY_BROKER_URL.startswith("filesystem"):
    CELERY_BROKER_TRANSPORT = "rapidsms_db_router.brokers.filesystem.Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(RUN_FOLDER / "queue"),
        "data_folder_out": str(RUN_FOLDER / "queue"),
        "control_folder": str(RUN_FOLDER / "control"),
        "polling_interval": 0.1,
    }
if "DB_ROUTER_TEST_SENTINEL" in os.environ:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"master_name": os.environ["DB_ROUTER_TEST_SENTINEL"]}
if "DB_ROUTER_TEST_QUORUM" in os.environ:
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = os.environ["DB_ROUTER_TEST_QUORUM"]
