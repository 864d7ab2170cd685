"""Settings of the project on ``rapidsms.router.db``."""
# ruff: noqa: F403, F405

from benchmarks.settings import *

INSTALLED_APPS = [*COMMON_APPS, "rapidsms.router.db"]
RAPIDSMS_ROUTER = "rapidsms.router.db.DatabaseRouter"
