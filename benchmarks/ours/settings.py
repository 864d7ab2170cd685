"""Settings of the project on ``rapidsms_db_router``; BENCHMARK_OPERATIONS adds the pages' app."""
# ruff: noqa: F403, F405

import os

from benchmarks.settings import *

INSTALLED_APPS = [*COMMON_APPS, "rapidsms_db_router"]
if os.environ.get("BENCHMARK_OPERATIONS"):
    INSTALLED_APPS.append("rapidsms_db_router.operations")
RAPIDSMS_ROUTER = "rapidsms_db_router.DatabaseRouter"
