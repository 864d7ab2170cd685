"""Settings of a project with RapidSMS's own backends, and one that posts JSON over HTTP.

Beside what the plain project's settings read: DB_ROUTER_TEST_GATEWAY, where gateways answer.
"""
# ruff: noqa: F403, F405

from tests.acceptance.project.settings import *

INSTALLED_APPS += ["rapidsms.contrib.httptester"]
ROOT_URLCONF = "tests.acceptance.project_with_gateways.urls"
GATEWAY = os.environ["DB_ROUTER_TEST_GATEWAY"]
INSTALLED_BACKENDS = {
    "http": {
        "ENGINE": "tests.acceptance.project_with_gateways.backends.HttpBackend",
        "url": f"{GATEWAY}/http",
        "router.db.batch_size": 20,
        "router.db.concurrency": 5,
    },
    "hanging": {
        "ENGINE": "tests.acceptance.project_with_gateways.backends.PatientHttpBackend",
        "url": f"{GATEWAY}/hanging",
        "router.db.timeout": 5,
    },
    "vumi": {
        "ENGINE": "rapidsms.backends.vumi.VumiBackend",
        "sendsms_url": f"{GATEWAY}/vumi",
        "sendsms_user": "user",
        "sendsms_pass": "password",
    },
    "database": {"ENGINE": "rapidsms.backends.database.DatabaseBackend"},
    "message_tester": {"ENGINE": "rapidsms.backends.database.DatabaseBackend"},
}
DB_ROUTER_MAX_RETRIES = 5
DB_ROUTER_RETRY_BACKOFF = 10
