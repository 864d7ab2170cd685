"""The stacks, the runs with their seeds, and a table of what came of each storm."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import ALL_REQUIRED
from tests.storms.running import SOON, STACKS, Figures, Storm

RUNS = int(os.environ.get("DB_ROUTER_STORMS_RUNS", "1"))
SEED = int(os.environ.get("DB_ROUTER_STORMS_SEED") or random.SystemRandom().randrange(10_000))
#: How much of a log to show, in lines.
TAIL = 60

_table: list[tuple[str, Figures]] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have every storm run as often as it is to, each time with other random moments."""
    metafunc.parametrize("seed", range(SEED, SEED + RUNS))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if _table:
        terminalreporter.section(f"storms, DB_ROUTER_STORMS_SEED={SEED}")
        width = max(len(name) for name, _ in _table)
        for name, figures in _table:
            terminalreporter.write_line(f"{name:{width}}  {figures}")


@pytest.fixture(scope="package", params=STACKS)
def servers_and_web(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storm]:
    """A migrated project with servers of its own and its web server running."""
    missing = [program for server in STACKS[request.param] for program in server.missing()]
    if missing:
        complain = pytest.fail if ALL_REQUIRED else pytest.skip
        complain(f"not installed: {', '.join(missing)}")
    storm = Storm(tmp_path_factory.mktemp(request.param), request.param)
    try:
        storm.create()
        storm.start_web()
        yield storm
    finally:
        storm.drop()


@pytest.fixture
def storm(servers_and_web: Storm, seed: int) -> Iterator[Storm]:
    """The project before a storm: no message, no worker. Its workers' logs if the test failed."""
    storm = servers_and_web
    storm.random.seed(seed)
    before = len(storm.processes)
    yield storm
    for process in storm.processes[before:]:
        lines = process.output().splitlines()[-TAIL:]
        print(f"== {process.log.name}", *lines, sep="\n")
    storm.calm()


@pytest.fixture
def passed(storm: Storm, request: pytest.FixtureRequest) -> Callable[..., Figures]:
    """A function that waits until a storm has passed, and compares what came of it.

    To be called at once after the last fault. ``extra`` is how many SMS may at most be sent
    twice.
    """

    def passed(extra: int = 0) -> Figures:
        figures = storm.end()
        _table.append((request.node.name, figures))
        assert (figures.lost, figures.stuck) == (0, 0), figures
        assert figures.extra <= extra, figures
        assert figures.seconds <= SOON, figures
        return figures

    return passed
