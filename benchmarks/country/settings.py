"""Settings of the service; what differs from run to run comes by environment.

COUNTRY_GATEWAY says where the gateway is, COUNTRY_RATE how many SMS it takes in a second, and
COUNTRY_VISIBILITY_TIMEOUT, where it is there, how long claims count. All else is the default.
"""
# ruff: noqa: F403, F405, F821 - names come from the settings that are imported

from tests.acceptance.project.settings import *

del DB_ROUTER_MAX_RETRIES, DB_ROUTER_RETRY_BACKOFF
if "COUNTRY_VISIBILITY_TIMEOUT" in os.environ:
    DB_ROUTER_VISIBILITY_TIMEOUT = float(os.environ["COUNTRY_VISIBILITY_TIMEOUT"])
ROOT_URLCONF = "benchmarks.country.urls"
DATABASES["default"]["CONN_MAX_AGE"] = 600
#: Calls at once: twice as many as a gateway of 50 milliseconds and 1,000 a second needs.
CALLS = 100
INSTALLED_BACKENDS = {
    "gateway": {
        "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
        "url": os.environ.get("COUNTRY_GATEWAY", "http://127.0.0.1:9/"),
        "method": "GET",
        "query": {"to": "{identity}", "text": "{text}"},
        "id": "id",
        "router.db.rate": f"{os.environ.get('COUNTRY_RATE', '1000')}/s",
        "router.db.concurrency": CALLS,
    }
}
