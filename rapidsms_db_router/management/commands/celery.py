"""``manage.py celery``: every Celery command, on the project's Celery app."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser
from itertools import takewhile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from kombu.exceptions import OperationalError

from rapidsms_db_router.worker import celery_app

DJANGO_OPTIONS = ("--settings", "--pythonpath")
#: How Celery is started; -P leaves out the current folder, which may hold a project's celery.py.
CELERY = [
    *([sys.executable, "-P"] if sys.version_info >= (3, 11) else [sys.executable]),
    *("-m", "celery", "-A", "rapidsms_db_router.worker.app"),
]


class Command(BaseCommand):
    """Becomes Celery's own command, on the project's Celery app."""

    help = (
        "Runs a Celery command, as in 'manage.py celery worker --loglevel=info', on the project's"
        " Celery app, or on one made from the Django settings if it has none."
    )
    _replaced = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Keep every option, --help too, for Celery; Django has taken its own two already."""
        words: list[str] = []
        skip = False
        for word in argv[2:]:
            if not (skip or word.partition("=")[0] in DJANGO_OPTIONS):
                words.append(word)
            skip = word in DJANGO_OPTIONS
        self._replaced = True
        super().run_from_argv([*argv[:2], "--", *words])

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take whatever there is."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process by the Celery command; run it beside one that called for it."""
        words = options["arguments"]
        if words[:1] == ["--"]:
            del words[0]
        if "worker" in words and not {"--help", "-h"} & set(words):
            self.warn_without_broker()
        # gevent and eventlet patch what Django imports: only a new process can be early enough
        command, environment = [*CELERY, *words], {**os.environ, "PYTHONPATH": import_path()}
        if self._replaced:
            connections.close_all()
            sys.stdout.flush()
            os.execve(command[0], command, environment)  # noqa: S606 - the operator's own words
        status = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
        if status:
            raise CommandError(f"celery ended with status {status}.", returncode=status)

    def warn_without_broker(self) -> None:
        """Say so, and how to go on, if the broker cannot be reached."""
        app = celery_app.ensure()
        try:
            with celery_app.impatient(app.connection_for_read(), 3) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
        except OperationalError as err:
            self.stderr.write(celery_app.no_broker(app, err))
            self.stderr.write("Messages are stored meanwhile. The worker goes on trying.")


def import_path() -> str:
    """Return what ``manage.py`` and its options have put before Python's own folders."""
    library = "python{}{}.zip".format(*sys.version_info)
    folders = takewhile(lambda folder: folder.name != library, map(Path, sys.path))
    # a project's celery.py would stand for Celery
    found = [str(folder.absolute()) for folder in folders if not (folder / "celery.py").exists()]
    return os.pathsep.join(found)
