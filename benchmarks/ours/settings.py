"""Settings of the project on ``rapidsms_db_router``."""
# ruff: noqa: F403, F405

from benchmarks.settings import *

INSTALLED_APPS = [*COMMON_APPS, "rapidsms_db_router"]
RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
