"""Settings of the project; what differs from storm to storm comes by environment.

Beside what the acceptance tests' project reads: DB_ROUTER_TEST_GATEWAY_SECONDS, how long a call of
a gateway takes; DB_ROUTER_TEST_CALL_SIZE, to how many it is; and DB_ROUTER_TEST_VISIBILITY_TIMEOUT,
DB_ROUTER_TEST_RECOVERY_INTERVAL, DB_ROUTER_TEST_MAX_RETRIES and DB_ROUTER_TEST_ATOMIC_RECEIVE.
"""
# ruff: noqa: F403, F405

from tests.acceptance.project.settings import *

ROOT_URLCONF = "tests.storms.project.urls"
RAPIDSMS_HANDLERS += ["tests.storms.project.handlers.PoisonHandler"]
INSTALLED_BACKENDS["gateway"] |= {
    "ENGINE": "tests.storms.project.gateway.SlowGatewayBackend",
    "seconds": float(os.environ.get("DB_ROUTER_TEST_GATEWAY_SECONDS", "0.1")),
    "router.db.batch_size": int(os.environ.get("DB_ROUTER_TEST_CALL_SIZE", "2")),
}
INSTALLED_BACKENDS["other"] = {
    **INSTALLED_BACKENDS["gateway"],
    "ENGINE": "tests.storms.project.gateway.HangingGatewayBackend",
    "router.db.timeout": 5,
}
# enough for those whom one fault after the other meets
DB_ROUTER_MAX_RETRIES = int(os.environ.get("DB_ROUTER_TEST_MAX_RETRIES", "20"))
DB_ROUTER_ATOMIC_RECEIVE = "DB_ROUTER_TEST_ATOMIC_RECEIVE" in os.environ
DB_ROUTER_VISIBILITY_TIMEOUT = float(os.environ.get("DB_ROUTER_TEST_VISIBILITY_TIMEOUT", "5"))
DB_ROUTER_RECOVERY_INTERVAL = float(os.environ.get("DB_ROUTER_TEST_RECOVERY_INTERVAL", "2"))
