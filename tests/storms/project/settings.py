"""Settings of the project; what differs from storm to storm comes by environment.

Beside what the acceptance tests' project reads: DB_ROUTER_TEST_GATEWAY_SECONDS, how long a call of
the gateway takes, and DB_ROUTER_TEST_VISIBILITY_TIMEOUT.
"""
# ruff: noqa: F403, F405

from tests.acceptance.project.settings import *

ROOT_URLCONF = "tests.storms.project.urls"
INSTALLED_BACKENDS["gateway"] |= {
    "ENGINE": "tests.storms.project.gateway.SlowGatewayBackend",
    "seconds": float(os.environ.get("DB_ROUTER_TEST_GATEWAY_SECONDS", "0.1")),
    "router.db.batch_size": 50,
}
DB_ROUTER_VISIBILITY_TIMEOUT = float(os.environ.get("DB_ROUTER_TEST_VISIBILITY_TIMEOUT", "5"))
DB_ROUTER_RECOVERY_INTERVAL = 2
