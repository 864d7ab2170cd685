"""A reader with nothing but Python, and a checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.terminal import Terminal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with the checkout in it, as far as the source distribution has it."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(home), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (archive,) = home.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(home, filter="data")
    archive.unlink()
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
