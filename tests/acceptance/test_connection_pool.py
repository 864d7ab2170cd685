"""A worker whose connections to PostgreSQL come from psycopg's pool, smaller than its threads."""

from __future__ import annotations

from collections.abc import Iterator

import django
import pytest

from tests import servers
from tests.acceptance.running import Project, wait_for

pytest.importorskip("psycopg_pool")
if django.VERSION < (5, 1):
    pytest.skip("Django has no pool before 5.1", allow_module_level=True)

#: How many people write.
PEOPLE = 12


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project on PostgreSQL and files, with a web server."""
    servers.require("postgres")
    folder = tmp_path_factory.mktemp("connection_pool")
    project = Project(folder, database="postgres", broker="filesystem://")
    try:
        project.create()
        project.start_web()
        yield project
    finally:
        project.drop()


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (("-c", "2", "--max-tasks-per-child=1"), 2),
        (("-P", "threads", "-c", "8"), 2),
    ],
    ids=["processes that end after each task", "threads"],
)
def test_everybody_is_answered_and_recovery_looks(
    project: Project, options: tuple[str, ...], most: int
) -> None:
    before = len(project.messages())
    worker = project.start_worker(*options, DB_ROUTER_TEST_POOL=str(most))
    worker.wait_for_output("ready.")
    for number in range(PEOPLE):
        project.post_sms(f"+2547{before + number:08}", "ping 1")

    def all_sent() -> bool:
        rows = project.messages()[before:]
        return len(rows) == 2 * PEOPLE and {row["status"] for row in rows} == {"R", "S"}

    wait_for("a reply to everybody", all_sent)
    worker.stop()
    said = worker.output()
    for event in ("recovery_failed", "renewal_failed", "database_refused", "step_failed"):
        assert event not in said
    assert "task_put_off" not in said
