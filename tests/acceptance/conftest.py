"""A project to test with, and its logs if a test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.running import Project

#: How much of a log to show, in lines.
TAIL = 60


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A migrated project on SQLite of which nothing runs yet; its broker is for the test to say."""
    project = Project(tmp_path_factory.mktemp("project"), database="sqlite", broker="memory://")
    try:
        project.create()
        yield project
    finally:
        project.drop()


@pytest.fixture(autouse=True)
def logs(request: pytest.FixtureRequest, project: Project) -> Iterator[None]:
    """Print the ends of the project's logs; pytest shows them if the test failed."""
    yield
    for process in project.processes:
        lines = process.output().splitlines()[-TAIL:]
        print(f"== {process.log.name}", *lines, sep="\n")
