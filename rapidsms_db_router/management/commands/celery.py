"""``manage.py celery``: every Celery command, on the project's Celery app."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any

import click
from celery import Celery
from celery.bin.celery import celery as cli
from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from rapidsms_db_router import celeryapp

DJANGO_OPTIONS = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """Hands its arguments to Celery, on the project's Celery app."""

    help = (
        "Runs a Celery command, as in 'manage.py celery worker --loglevel=info', on the project's"
        " Celery app, or on one made from the Django settings if it has none."
    )

    def run_from_argv(self, argv: list[str]) -> None:
        """Keep every option, --help too, for Celery; Django has taken its own two already."""
        words: list[str] = []
        skip = False
        for word in argv[2:]:
            if not (skip or word.partition("=")[0] in DJANGO_OPTIONS):
                words.append(word)
            skip = word in DJANGO_OPTIONS
        super().run_from_argv([*argv[:2], "--", *words])

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take whatever there is."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the Celery command."""
        words = [word for word in options["arguments"] if word != "--"]
        app = celeryapp.ensure()
        if "worker" in words and not {"--help", "-h"} & set(words):
            self.warn_without_broker(app)
        # as Celery.start() does, which drops the exit status
        cli.params[0].default = app
        try:
            status = cli.main(args=words, standalone_mode=False)
        except click.exceptions.Exit as err:
            status = err.exit_code
        except click.ClickException as err:
            err.show()
            status = err.exit_code
        except OperationalError as err:
            raise CommandError(no_broker(app, err)) from err
        finally:
            cli.params[0].default = None
        if isinstance(status, int) and status:
            sys.exit(status)

    def warn_without_broker(self, app: Celery) -> None:
        """Say so, and how to go on, if the broker cannot be reached."""
        try:
            with celeryapp.impatient(app.connection_for_read(), 3) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0)
        except OperationalError as err:
            self.stderr.write(no_broker(app, err))
            self.stderr.write("Messages are stored meanwhile. The worker goes on trying.")


def no_broker(app: Celery, err: Exception) -> str:
    """Return what to tell an operator whose broker does not answer; no password in it."""
    with app.connection_for_read() as connection:
        return (
            f"No broker answers at {connection.as_uri()} ({err}). Start it, or set"
            " CELERY_BROKER_URL to one that runs."
        )
