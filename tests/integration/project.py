"""A small project in a folder of its own, and Django processes in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class Project:
    """A package ``clinic`` with a settings module, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = "clinic.settings"
        self.write("clinic/__init__.py", "")
        self.write(
            "clinic/settings.py",
            "from tests.settings import *\nCELERY_BROKER_URL = 'memory://from-settings'\n",
        )

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def add_settings(self, text: str) -> None:
        """Append to the settings module."""
        with (self.folder / "clinic/settings.py").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def python(
        self, *arguments: str, before: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python process of the project to its end.

        :param before: a command that runs it.
        """
        path = os.pathsep.join([str(self.folder), str(REPOSITORY)])
        return subprocess.run(
            [*before, sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": self.settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        return self.python("-m", "django", *arguments)
