"""Settings before, during and after the move; DB_ROUTER_TEST_MOVE says which.

``before``: the old router alone. ``beside``: both apps are installed, and the old router works.
``after``: this router alone.
"""
# ruff: noqa: F403, F405

from tests.acceptance.project.settings import *

MOVE = os.environ.get("DB_ROUTER_TEST_MOVE", "before")
OLD, OURS = "rapidsms.router.db", "rapidsms_db_router"

INSTALLED_APPS = [name for name in INSTALLED_APPS if not name.startswith(OURS)]
INSTALLED_APPS += {"before": [OLD], "beside": [OLD, OURS], "after": [OURS]}[MOVE]
INSTALLED_APPS += ["tests.acceptance.project_that_moves.staff"]
RAPIDSMS_ROUTER = f"{OURS if MOVE == 'after' else OLD}.DatabaseRouter"
RAPIDSMS_HANDLERS += ["tests.acceptance.project_that_moves.handlers.BrokenHandler"]
ROOT_URLCONF = "tests.acceptance.project_that_moves.urls"
INSTALLED_BACKENDS["gateway"]["ENGINE"] = (
    "tests.acceptance.project_that_moves.gateway.HangingBackend"
)
DB_ROUTER_RECOVERY_INTERVAL = 1
