"""A reader with nothing but Python, and a checkout."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.terminal import Terminal


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built once: two builds in one checkout disturb each other."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.tar.gz")):
            command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(folder), str(ROOT)]
            subprocess.run(command, check=True, capture_output=True, timeout=300)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture
def home(tmp_path: Path, archive: Path) -> Path:
    """A home folder with the checkout in it, as far as the source distribution has it."""
    home = tmp_path / "home"
    home.mkdir()
    with tarfile.open(archive) as files:
        files.extractall(home, filter="data")
    (unpacked,) = home.iterdir()
    unpacked.rename(home / "rapidsms-db-router")
    return home


@pytest.fixture
def terminal(tmp_path: Path, home: Path) -> Iterator[Terminal]:
    folder = tmp_path / "empty"
    folder.mkdir()
    terminal = Terminal(folder, home)
    yield terminal
    terminal.close()
