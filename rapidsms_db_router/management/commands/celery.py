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
from rapidsms_db_router.worker.publisher import impatient, within

#: How long a worker looks for its broker before it says that there is none, in seconds.
PATIENCE = 3
DJANGO_OPTIONS = ("--settings", "--pythonpath")
CELERY = sys.executable, "-m", "celery"
APP = "-A", "rapidsms_db_router.worker.app"
#: Pools of green threads, for which Celery patches Python's own modules.
GREEN = ("gevent", "eventlet")
#: Commands that start several workers, or show how they would be started.
MULTI = {("multi", "start"), ("multi", "restart"), ("multi", "show")}
#: Celery's options before its command whose value is the next word.
WITH_VALUE = {
    *("-A", "--app", "-b", "--broker"),
    *("--result-backend", "--loader", "--config", "--workdir"),
}


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
        if words[command_at(words) :][:1] == ["worker"] and not {"--help", "-h"} & set(words):
            self.warn_without_broker()
        # gevent and eventlet patch what Django imports: only a new process can be early enough
        app = () if any(word.startswith(("-A", "--app")) for word in words) else APP
        command = [*CELERY, *app, *with_pool(words)]
        environment = {**os.environ, "PYTHONPATH": import_path()}
        environment.setdefault("PYTHONSAFEPATH", celery_app.SAFE_PATH)
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
            with impatient(app.connection_for_read(), PATIENCE) as connection:
                within(PATIENCE, lambda: connection.ensure_connection(max_retries=1))
        except OperationalError as err:
            self.stderr.write(celery_app.no_broker(app, err))
            self.stderr.write("Messages are stored meanwhile. The worker goes on trying.")


def with_pool(words: list[str]) -> list[str]:
    """Return a command's words with a pool of green threads named as Celery looks for it.

    Celery looks for ``-P gevent`` or ``--pool=gevent``. Where the pool is named in another way,
    Celery uses it, but patches nothing, and the worker takes tasks and runs none.
    """
    for number, word in enumerate(words):
        if word.startswith("-P") and word[2:] in GREEN:
            return [*words[:number], "-P", word[2:], *words[number + 1 :]]
        if word.startswith(("-P", "--pool")):
            return words
    place = command_at(words)
    command = tuple(words[place : place + 2])
    if command[:1] == ("worker",):
        place += 1
    elif command in MULTI:
        place += 2
    else:
        return words
    pool = os.environ.get("CELERY_WORKER_POOL") or celery_app.ensure().conf.worker_pool
    return [*words[:place], f"--pool={pool}", *words[place:]] if pool in GREEN else words


def command_at(words: list[str]) -> int:
    """Return where among some words Celery's command stands; their number if it is missing."""
    value = False
    for number, word in enumerate(words):
        if not value and not word.startswith("-"):
            return number
        value = word in WITH_VALUE
    return len(words)


def import_path() -> str:
    """Return what ``manage.py`` and its options have put before Python's own folders."""
    library = "python{}{}.zip".format(*sys.version_info)
    folders = takewhile(lambda folder: folder.name != library, map(Path, sys.path))
    # a project's celery.py would stand for Celery
    found = [str(folder.absolute()) for folder in folders if not (folder / "celery.py").exists()]
    return os.pathsep.join(found)
