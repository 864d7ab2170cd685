"""The stacks, the runs with their seeds, and a table of what came of each storm."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from tests.servers import ALL_REQUIRED
from tests.storms.running import SOON, STACKS, Figures, Storm

RUNS = int(os.environ.get("DB_ROUTER_STORMS_RUNS", "1"))
SEED = int(os.environ.get("DB_ROUTER_STORMS_SEED") or random.SystemRandom().randrange(10_000))
#: How much of a log to show, in lines.
TAIL = 60

#: By storm and stack: how much of what may at most be sent twice, and what came of each run.
_table: dict[tuple[str, str], tuple[int, list[Figures]]] = {}
COLUMNS = (
    *("storm", "stack", "runs", "lost", "sent twice (at most)", "stuck"),
    *("seconds", "longest call"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of the storms whose figures the documentation shows."""
    config.addinivalue_line("markers", "table: is a row of the documentation's table of faults")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have every storm run as often as it is to, each time with other random moments."""
    metafunc.parametrize("seed", range(SEED, SEED + RUNS))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the worst of each storm's runs, as a table that documentation can take over."""
    if not _table:
        return
    rows = [COLUMNS, *(_row(*key, *_table[key]) for key in _table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = ["=" * width for width in widths]
    terminalreporter.section(f"storms, the worst of their runs, DB_ROUTER_STORMS_SEED={SEED}")
    for row in (line, rows[0], line, *rows[1:], line):
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line("  ".join(cells).rstrip())


def _row(storm: str, stack: str, most_extra: int, runs: list[Figures]) -> tuple[str, ...]:
    worst = {name: max(asdict(run)[name] for run in runs) for name in asdict(runs[0])}
    extra = f"{worst['extra']} ({most_extra})"
    times = (f"{worst[name]:.1f}" for name in ("seconds", "call"))
    return storm, stack, str(len(runs)), str(worst["lost"]), extra, str(worst["stuck"]), *times


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
    twice. ``soon`` is how many
    seconds all may take to end.
    """
    name = request.node.originalname.removeprefix("test_").replace("_", " ")
    params = {**request.node.callspec.params, "servers_and_web": "", "seed": ""}
    words = (getattr(value, "__name__", value).replace("_", " ") for value in params.values())
    name = ", ".join(filter(None, [name, *words]))

    def passed(extra: int = 0, soon: float = SOON) -> Figures:
        figures = storm.end()
        _table.setdefault((name, storm.stack), (extra, []))[1].append(figures)
        assert (figures.lost, figures.stuck) == (0, 0), figures
        assert figures.extra <= extra, figures
        assert figures.seconds <= soon, figures
        return figures

    return passed
