"""Settings of the project whose pages are asked; DB_ROUTER_TEST_DATABASE chooses the database."""
# ruff: noqa: F403, F405

from tests.acceptance.project.settings import *

ROOT_URLCONF = "tests.urls"
INSTALLED_BACKENDS["gateway"] = {
    "ENGINE": "benchmarks.service.gateway.Gateway",
    "seconds": 0.05,
    "log": str(RUN_FOLDER / "gateway.calls"),
}
# what tests.urls names
INSTALLED_BACKENDS["phones"] = INSTALLED_BACKENDS["gateway"]
for database in DATABASES.values():
    database["CONN_MAX_AGE"] = 600
